"""The kinds of syntax that a statement may be made of: an allow-list of sqlglot's node classes.

A class that isn't listed is refused by name, wherever it stands in the tree: so a CTE can't hold an INSERT, and what a
new version of sqlglot learns to parse stays closed until it is added here. Names that this version of sqlglot does
not have are passed over, which closes them as well. Functions that sqlglot knows have classes of their own; those that
it doesn't are ``Anonymous`` and go by name (``functions.py``), and so does, once more, everything in the written text.
"""

from __future__ import annotations

import inspect

from sqlglot import exp


def _classes(text: str) -> frozenset[type]:
    found = (getattr(exp, name, None) for name in text.split())
    return frozenset(cls for cls in found if inspect.isclass(cls))


# Queries and their clauses. Left out: Into, Lock, MatchRecognize, Command, and all of DML and DDL.
QUERY = _classes(
    """
    CTE Cube Distinct Except Fetch From Group GroupingSets Having Intersect Join Lateral Limit LimitOptions
    Offset Order Ordered Qualify Rollup Select Subquery Table TableAlias TableSample Tuple Union Values Where
    Window WindowSpec With
    """
)

# Only where text and engine speak the same dialect, for their columns get other names elsewhere.
NATIVE = _classes("Pivot PivotAlias UnpivotColumns")

# Names, literals, types and what is built of them. Left out: Parameter, Placeholder, Pseudocolumn (rownum), Operator.
VALUE = _classes(
    """
    Alias Aliases AtTimeZone BitString Boolean Bracket ByteString Column ColumnDef Comprehension DataType
    DataTypeParam Dot HexString Identifier Interval IntervalSpan Kwarg Lambda Literal National Null Paren
    PositionalColumn PropertyEQ RawString Slice Star ToMap UnicodeString Var
    """
)

# Operators and predicates.
OPERATOR = _classes(
    """
    Add All Any ArrayContainedBy Between BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift
    BitwiseXor DPipe Distance Div EQ Escape GT GTE Glob ILike In IntDiv Is LT LTE Like Mod Mul NEQ Neg Not
    NullSafeEQ NullSafeNEQ SimilarTo Sub
    """
)

# What stands inside or beside a function call.
MODIFIER = _classes(
    """
    Filter FormatJson HavingMax IgnoreNulls JSONKeyValue JSONPath JSONPathKey JSONPathRecursive JSONPathRoot
    JSONPathSlice JSONPathSubscript JSONPathUnion JSONPathWildcard JSONValue OnCondition RespectNulls
    WithinGroup
    """
)

# Functions with a class of their own. Left out: files (ReadCSV, ToFile), networks, models (AI*, ML*), XML, secrets,
# sequences, encryption, row generators, and what asks about the session other than SESSION below.
FUNCTION = _classes(
    """
    Abs Acos Acosh AddMonths Agg And Anonymous AnyValue ApproxDistinct ApproxQuantile ApproxQuantiles ApproxTopK
    ArgMax ArgMin Array ArrayAgg ArrayAll ArrayAny ArrayAppend ArrayCompact ArrayConcat ArrayConcatAgg
    ArrayConstructCompact ArrayContainedBy ArrayContains ArrayContainsAll ArrayDistinct ArrayExcept ArrayFilter
    ArrayFirst ArrayInsert ArrayIntersect ArrayLast ArrayMax ArrayMin ArrayOverlaps ArrayPosition ArrayPrepend
    ArrayRemove ArrayRemoveAt ArrayReverse ArraySize ArraySlice ArraySort ArraySum ArrayToString ArrayUnionAgg
    ArrayUniqueAgg ArraysZip Ascii Asin Asinh Atan Atan2 Atanh Avg Base64DecodeBinary Base64DecodeString
    Base64Encode BitLength BitwiseAndAgg BitwiseCount BitwiseOrAgg BitwiseXorAgg Booland Boolnot Boolor
    BoolxorAgg ByteLength Case Cast CastToStrType Cbrt Ceil CheckJson Chr Coalesce CodePointsToBytes
    CodePointsToString Collate Columns Concat ConcatWs Contains ConvertTimezone Corr Cos Cosh CosineDistance Cot
    Coth Count CountIf CovarPop CovarSamp Csc Csch CumeDist Date DateAdd DateBin DateDiff DateFromParts
    DateFromUnixDate DateStrToDate DateSub DateToDateStr DateToDi DateTrunc Datetime DatetimeAdd DatetimeDiff
    DatetimeSub DatetimeTrunc Day DayOfMonth DayOfWeek DayOfWeekIso DayOfYear Dayname Decode DecodeCase Degrees
    DenseRank DiToDate DotProduct Elt Encode EndsWith EqualNull EuclideanDistance Exists Exp Explode
    ExplodingGenerateSeries Extract Factorial First FirstValue Float64 Floor Format FromBase FromBase32
    FromBase64 FromISO8601Date FromISO8601Timestamp FromISO8601TimestampNanos FromJson GenerateDateArray
    GenerateSeries GenerateTimestampArray GetExtract Getbit Greatest GroupConcat Grouping GroupingId Hex
    HexDecodeString Hour If Initcap Int64 IsArray IsAscii IsInf IsNan IsNullValue JSONArray JSONArrayAgg
    JSONArrayAppend JSONArrayContains JSONArrayInsert JSONBContains JSONBContainsAllTopKeys
    JSONBContainsAnyTopKeys JSONBContainsTopKey JSONBDeleteAtPath JSONBExists JSONBExtract JSONBExtractScalar
    JSONBObjectAgg JSONBPathExists JSONBool JSONCast JSONExists JSONExtract JSONExtractArray JSONExtractScalar
    JSONFormat JSONKeys JSONKeysAtDepth JSONObject JSONObjectAgg JSONRemove JSONSet JSONStripNulls JSONType
    JSONValueArray JarowinklerSimilarity JustifyDays JustifyHours JustifyInterval Kurtosis Lag Last LastDay
    LastValue LaxBool LaxFloat64 LaxInt64 LaxString Lead Least Left Length Levenshtein List Ln Log LogicalAnd
    LogicalOr Lower LowerHex MD5 MD5Digest MD5NumberLower64 MD5NumberUpper64 MakeInterval ManhattanDistance Map
    MapCat MapContainsKey MapDelete MapFromEntries MapInsert MapKeys MapPick MapSize Max Median Min Minute Mode
    Month Monthname MonthsBetween Nanvl Negative NextDay Normalize NthValue Ntile Nullif NumberToStr Nvl2
    ObjectAgg ObjectId ObjectInsert Or Overlay Pad ParseBignumeric ParseDatetime ParseJSON ParseNumeric
    ParseTime PercentRank PercentileCont PercentileDisc Pi Posexplode Pow PreviousDay Quantile Quarter Radians
    Rank Reduce RegexpCount RegexpExtract RegexpExtractAll RegexpFullMatch RegexpILike RegexpInstr RegexpLike
    RegexpReplace RegexpSplit RegexpSubstr RegrAvgx RegrAvgy RegrCount RegrIntercept RegrR2 RegrSlope RegrSxx
    RegrSxy RegrSyy RegrValx RegrValy Repeat Replace Reverse Right Rint Round RowNumber RtrimmedLength SHA
    SHA1Digest SHA2 SHA2Digest SafeAdd SafeConvertBytesToString SafeDivide SafeMultiply SafeNegate SafeSubtract
    Sec Sech Second Sign Sin Sinh Skewness Soundex SoundexP123 Space Split SplitPart Sqrt StartsWith Stddev
    StddevPop StddevSamp StrPosition StrToDate StrToMap StrToTime StrToUnix String StringToArray StripNullValue
    Strtok StrtokToArray Struct StructExtract Stuff Substring SubstringIndex Sum Tan Tanh Time TimeAdd TimeDiff
    TimeFromParts TimeSlice TimeStrToDate TimeStrToTime TimeStrToUnix TimeSub TimeToStr TimeToTimeStr TimeToUnix
    TimeTrunc Timestamp TimestampAdd TimestampDiff TimestampFromParts TimestampLtzFromParts TimestampSub
    TimestampTrunc TimestampTzFromParts ToArray ToBase32 ToBase64 ToBinary ToBoolean ToChar ToCodePoints ToDays
    ToDecfloat ToDouble ToMap ToNumber ToVariant Transform Translate Trim Trunc Try TryBase64DecodeBinary
    TryBase64DecodeString TryCast TryHexDecodeBinary TryHexDecodeString TryToDecfloat TsOrDiToDi TsOrDsAdd
    TsOrDsDiff TsOrDsToDate TsOrDsToDateStr TsOrDsToDatetime TsOrDsToTime TsOrDsToTimestamp Typeof Unhex Unicode
    UnixDate UnixMicros UnixMillis UnixSeconds UnixToStr UnixToTime UnixToTimeStr Unnest Upper Variance
    VariancePop Week WeekOfYear WeightString WidthBucket Xor Year YearOfWeek YearOfWeekIso
    """
)

# The clock and chance: allowed, and what makes a plan volatile.
VOLATILE = _classes(
    """
    CurrentDate CurrentDatetime CurrentTime CurrentTimestamp CurrentTimestampLTZ Localtime Localtimestamp Rand
    Randn Shuffle Systimestamp UtcDate UtcTime UtcTimestamp Uuid
    """
)

# Answered by the planner with literals.
SESSION = _classes("CurrentCatalog CurrentDatabase CurrentRole CurrentSchema CurrentUser CurrentVersion SessionUser")

ALLOWED = QUERY | VALUE | OPERATOR | MODIFIER | FUNCTION | VOLATILE | SESSION
