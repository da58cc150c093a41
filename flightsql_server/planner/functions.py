"""The functions that a statement may call, by the names under which the engine (DuckDB) knows them.

An allow-list: a name that isn't here is refused, so a function that a new version of the engine brings is closed until
somebody has read what it does and added it. Left out on purpose, besides what the groups say:

- whatever reads files, network, secrets or other databases: read_*, glob, parquet_*, sniff_csv, *_scan, which_secret;
- whatever runs SQL given as text, or names tables in text: query, query_table, json_execute_serialized_sql, summary;
- whatever tells of the server: current_setting, getvariable, duckdb_*, pragma_*, pg_*, stats, version (answered here),
  current_query, current_schemas, in_search_path, txid_current, has_*_privilege, inet_*, *_description;
- whatever changes or holds up something: nextval, setval, write_log, checkpoint, force_checkpoint, sleep_ms, pg_sleep;
- whatever takes the square of its texts' lengths and can't be interrupted: levenshtein, damerau_levenshtein, editdist3;
- whatever fails on demand, since engine errors may carry values of rows: error, assert_true;
- the engine's internals: __internal_*, collate_*, icu_*, vector_type, create_sort_key, constant_or_null, invoke.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Aggregates. Left out: combine, finalize and the like, which open the engine's internal aggregate states.
AGGREGATE = _names(
    """
    any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null
    arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax argmin array_agg avg bit_and bit_or
    bit_xor bitstring_agg bool_and bool_or corr count count_if count_star countif covar_pop covar_samp
    decimal_average entropy favg first fsum geomean geometric_mean group_concat histogram histogram_exact
    kahan_sum kurtosis kurtosis_pop last list listagg lttb mad max max_by mean median min min_by mode product
    quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
    regr_sxx regr_sxy regr_syy sem skewness stddev stddev_pop stddev_samp string_agg sum sum_no_overflow
    sumkahan var_pop var_samp variance wavg weighted_avg
    """
)

# Functions that need OVER.
WINDOW = _names(
    """
    cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense
    row_number
    """
)

# Numbers and bits.
NUMBER = _names(
    """
    abs acos acosh asin asinh atan atan2 atanh bar bin binom bit_count bitstring cbrt ceil ceiling cos cosh cot
    decimal_division degrees divide equi_width_bins even exp factorial fdiv floor fmod gamma gcd get_bit
    greatest_common_divisor isfinite isinf isnan lcm least_common_multiple lgamma ln log log10 log2 mod multiply
    nextafter pi pow power radians round round_even roundbankers set_bit sign signbit sin sinh sqrt subtract tan
    tanh trunc xor
    """
)

# Dates, times, intervals; none of them reads the clock.
TIME = _names(
    """
    add century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname
    dayofmonth dayofweek dayofyear days_in_month decade epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear
    julian last_day make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz
    microsecond millennium millisecond minute month monthname nanosecond quarter second strftime strptime
    time_bucket timezone timezone_hour timezone_minute to_centuries to_days to_decades to_hours to_microseconds
    to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds to_timestamp to_weeks to_years
    try_strptime uuid_extract_timestamp uuid_extract_version week weekday weekofyear year yearweek
    """
)

# Lists, structs, maps, unions, enums, and the two that make lists of numbers (range, generate_series).
NESTED = _names(
    """
    apply array_aggr array_aggregate array_append array_apply array_cat array_concat array_contains
    array_cosine_distance array_cosine_similarity array_cross_product array_distance array_distinct
    array_dot_product array_extract array_filter array_grade_up array_has array_has_all array_has_any
    array_indexof array_inner_product array_intersect array_length array_negative_dot_product
    array_negative_inner_product array_pop_back array_pop_front array_position array_prepend array_push_back
    array_push_front array_reduce array_resize array_reverse array_reverse_sort array_select array_slice
    array_sort array_to_json array_to_string array_transform array_unique array_value array_where array_zip
    cardinality element_at enum_code enum_first enum_last enum_range enum_range_boundary filter flatten
    generate_series generate_subscripts grade_up len list_aggr list_aggregate list_any_value list_append
    list_apply list_approx_count_distinct list_avg list_bit_and list_bit_or list_bit_xor list_bool_and
    list_bool_or list_cat list_concat list_contains list_cosine_distance list_cosine_similarity list_count
    list_distance list_distinct list_dot_product list_element list_entropy list_extract list_filter list_first
    list_grade_up list_has list_has_all list_has_any list_histogram list_indexof list_inner_product
    list_intersect list_kurtosis list_kurtosis_pop list_last list_mad list_max list_median list_min list_mode
    list_negative_dot_product list_negative_inner_product list_pack list_position list_prepend list_product
    list_reduce list_resize list_reverse list_reverse_sort list_select list_sem list_skewness list_slice
    list_sort list_stddev_pop list_stddev_samp list_string_agg list_sum list_transform list_unique list_value
    list_var_pop list_var_samp list_where list_zip map map_concat map_contains map_contains_entry
    map_contains_value map_entries map_extract map_extract_value map_from_entries map_keys map_values range
    reduce row struct_concat struct_contains struct_extract struct_extract_at struct_has struct_indexof
    struct_insert struct_keys struct_pack struct_position struct_update struct_values union_extract union_tag
    union_value
    """
)

# JSON values. Left out: json_serialize_sql, json_serialize_plan, json_deserialize_sql,
# json_execute_serialized_sql: they parse, plan or run SQL that no gate has seen.
JSON = _names(
    """
    from_json from_json_strict json json_array json_array_length json_contains json_deep_merge json_exists
    json_extract json_extract_path json_extract_path_text json_extract_string json_group_array json_group_object
    json_group_structure json_insert json_keys json_merge_patch json_merge_patch_diff json_normalize json_object
    json_pretty json_quote json_remove json_replace json_set json_strip_nulls json_structure json_transform
    json_transform_strict json_type json_valid json_value row_to_json to_json
    """
)

# Text, bytes, hashes, comparison and conversion. The path functions only cut text; none opens a file.
TEXT = _names(
    """
    aggregate alias ascii base64 bit_length bit_position char_length character_length chr concat concat_ws
    contains decode encode ends_with format format_bytes formatreadabledecimalsize
    formatreadablesize from_base64 from_binary from_hex greatest hamming hash hex if ilike_escape instr jaccard
    jaro_similarity jaro_winkler_similarity lcase least left left_grapheme length length_grapheme
    like_escape lower lpad ltrim md5 md5_number md5_number_lower md5_number_upper mismatches nfc_normalize
    not_ilike_escape not_like_escape nullif octet_length ord overlay parse_dirname parse_dirpath parse_filename
    parse_formatted_bytes parse_path path_join pg_typeof position prefix printf regexp_escape regexp_extract
    regexp_extract_all regexp_full_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table repeat replace reverse right right_grapheme rpad rtrim sha1 sha256 split split_part
    starts_with str_split str_split_regex string_split string_split_regex string_to_array strip_accents strlen
    strpos substr substring substring_grapheme suffix switch to_base to_base64 to_binary to_hex translate trim
    typeof ucase unbin unhex unicode upper url_decode url_encode
    """
)

# Functions whose answer differs between two runs on the same data: the clock, chance, new identifiers.
VOLATILE = _names(
    """
    age ago gen_random_uuid get_current_time get_current_timestamp now random reservoir_quantile setseed today
    transaction_timestamp uuid uuidv4 uuidv7
    """
)

# Words of the clock that need no brackets.
CLOCK_WORDS = _names("current_date current_time current_timestamp localtime localtimestamp")

# Answered by the planner as literals; the engine's own answers would name the engine's user, not the caller.
SESSION = _names("version current_user user session_user current_role current_schema current_database current_catalog")

# What stands before an opening bracket in the engine's grammar without being a call, or is a call with its own syntax.
SYNTAX = _names(
    """
    all and any array as asc between by cast case coalesce columns cross cube decimal desc distinct else end except
    exclude exists extract filter for from group grouping having ilike if in inner interval intersect is join lambda
    lateral left like limit not nullif nulls numeric offset on or order outer over overlay partition position
    materialized pivot qualify recursive rename replace right rollup row select semi set sets similar some struct
    substring system bernoulli reservoir then to top trim try_cast union unnest unpivot using values varchar char
    bpchar bit when where window with within
    """
)

# The same, of what other dialects' statements are written with.
SYNTAX |= _names("grouping_id repeatable try")

SCALAR = NUMBER | TIME | NESTED | JSON | TEXT | VOLATILE
ALLOWED = AGGREGATE | WINDOW | SCALAR

# Names that the parser must not rewrite when text and engine speak the same dialect: all without syntax of their own.
# MAP is a type as well; those of IGNORE NULLS are only written right when the parser knows them.
_PARSED = _names("map first last first_value last_value nth_value lag lead")
NATIVE = ALLOWED - SYNTAX - _PARSED

# Written by the planner alone, with texts of its own: the same name in a user's text is refused before.
WRITTEN = _names("error")

# What may stand in FROM with arguments. ``repeat`` and ``json_each`` wait until somebody needs them.
TABLE_FUNCTIONS = _names("range generate_series unnest")
