-- DuckDB statements whose planned form must give what DuckDB itself gives: the same rows under the same names.
-- One statement a line; a line that begins with blanks goes on with the one before.
SELECT 1
SELECT 1 AS "A b", 'x' AS "Sélect", 2 AS select_
SELECT count(*), a + b, Sum(A), max(b) - min(b) FROM (VALUES (1, 2), (3, 4)) t(a, b) GROUP BY a + b
SELECT * FROM market_data ORDER BY symbol
FROM market_data ORDER BY ALL
FROM market_data SELECT symbol, bid_price WHERE volume > 5 ORDER BY symbol
TABLE market_data
VALUES (1, 'a'), (2, 'b')
SELECT Symbol, BID_PRICE FROM Market_Data ORDER BY 1
SELECT market_data.symbol, main.market_data.volume FROM market_data ORDER BY 1
SELECT desk.main.market_data.symbol FROM desk.main.market_data ORDER BY 1
SELECT m.* FROM main.market_data AS m ORDER BY m.symbol
SELECT m FROM market_data m ORDER BY m.symbol
SELECT symbol, ask_price - bid_price AS spread FROM market_data WHERE ask_price IS NOT NULL ORDER BY spread DESC, 1
SELECT ask_price - bid_price, (ask_price + bid_price) / 2, -volume, volume // 2, volume % 2 FROM market_data ORDER BY 1
SELECT DISTINCT side FROM orders ORDER BY side
SELECT DISTINCT ON (symbol) symbol, order_id FROM orders ORDER BY symbol, order_id
SELECT o.order_id, m.last_price FROM orders o JOIN market_data m USING (symbol) ORDER BY 1
SELECT o.order_id, m.last_price FROM orders o LEFT JOIN market_data m ON o.symbol = m.symbol AND m.volume > 20 ORDER BY 1
SELECT count(*) FROM orders o FULL JOIN positions p ON o.symbol = p.symbol
SELECT count(*) FROM orders CROSS JOIN market_data
SELECT count(*) FROM orders, market_data WHERE orders.symbol = market_data.symbol
SELECT * FROM orders o SEMI JOIN market_data m ON o.symbol = m.symbol ORDER BY order_id
SELECT order_id FROM orders o ANTI JOIN market_data m ON o.symbol = m.symbol ORDER BY order_id
SELECT * FROM orders NATURAL JOIN positions ORDER BY order_id
SELECT o.order_id, m.bid_price FROM orders o ASOF JOIN market_data m ON o.symbol = m.symbol AND o.updated_at >= m.timestamp ORDER BY 1
SELECT o.order_id, m.bid_price FROM orders o ASOF LEFT JOIN market_data m ON o.symbol = m.symbol AND o.updated_at >= m.timestamp ORDER BY 1
SELECT * FROM (SELECT symbol FROM market_data ORDER BY 1) POSITIONAL JOIN (SELECT order_id FROM orders ORDER BY 1)
SELECT a.symbol, b.symbol FROM market_data a, market_data b WHERE a.volume < b.volume ORDER BY ALL
SELECT symbol, sum(quantity) FROM positions GROUP BY symbol HAVING sum(quantity) > 10 ORDER BY symbol
SELECT symbol, count(*) AS n FROM orders GROUP BY ALL ORDER BY ALL
SELECT symbol, side, count(*) FROM orders GROUP BY ROLLUP (symbol, side) ORDER BY ALL
SELECT symbol, side, count(*), grouping(symbol) FROM orders GROUP BY GROUPING SETS ((symbol), (side), ()) ORDER BY ALL
SELECT symbol, side, count(*) FROM orders GROUP BY CUBE (symbol, side) ORDER BY ALL
SELECT symbol, row_number() OVER (PARTITION BY side ORDER BY order_id) FROM orders ORDER BY ALL
SELECT order_id, sum(quantity) OVER (ORDER BY order_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM orders ORDER BY 1
SELECT order_id, lag(quantity, 1, 0) OVER w, lead(quantity) OVER w FROM orders WINDOW w AS (ORDER BY order_id) ORDER BY 1
SELECT order_id, first_value(symbol IGNORE NULLS) OVER (ORDER BY order_id) FROM orders ORDER BY 1
SELECT order_id FROM orders QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY order_id DESC) = 1 ORDER BY 1
SELECT sum(quantity) FILTER (WHERE side = 'BUY'), count(*) FILTER (side = 'SELL') FROM orders
SELECT quantile_cont(quantity, 0.5), median(quantity), mode(side), arg_max(order_id, quantity) FROM orders
SELECT list(order_id ORDER BY order_id), array_agg(DISTINCT side ORDER BY side), string_agg(symbol, ',' ORDER BY order_id) FROM orders
SELECT approx_count_distinct(symbol), any_value(1), bool_and(quantity > 0), stddev_samp(quantity), var_pop(quantity) FROM orders
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY quantity) AS p, mode() WITHIN GROUP (ORDER BY side) AS m FROM orders
SELECT histogram(side), entropy(side), count(DISTINCT side), product(quantity) FROM orders
WITH x AS (SELECT symbol FROM market_data) SELECT * FROM x ORDER BY 1
WITH x(s) AS (SELECT symbol FROM market_data), y AS (SELECT s || '!' AS t FROM x) SELECT t FROM y ORDER BY 1
WITH x AS MATERIALIZED (SELECT 1 AS a) SELECT * FROM x
WITH x AS NOT MATERIALIZED (SELECT 1 AS a) SELECT * FROM x, x AS y
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r
WITH RECURSIVE r(n) AS (VALUES (1) UNION SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r ORDER BY 1
WITH market_data AS (SELECT 42 AS symbol) SELECT * FROM market_data
WITH market_data AS (SELECT symbol FROM market_data LIMIT 1) SELECT count(*) FROM market_data
WITH RECURSIVE market_data AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM market_data WHERE n < 3) FROM market_data ORDER BY 1
SELECT * FROM (WITH orders AS (SELECT 1 AS a) SELECT * FROM orders) q, (SELECT count(*) AS n FROM orders) r
SELECT symbol FROM market_data WHERE symbol IN (SELECT symbol FROM orders) ORDER BY 1
SELECT symbol FROM market_data m WHERE EXISTS (SELECT 1 FROM orders o WHERE o.symbol = m.symbol) ORDER BY 1
SELECT symbol FROM market_data m WHERE NOT EXISTS (FROM orders o WHERE o.symbol = m.symbol) ORDER BY 1
SELECT symbol, (SELECT count(*) FROM orders o WHERE o.symbol = m.symbol) AS n FROM market_data m ORDER BY 1
SELECT symbol FROM market_data WHERE volume > ALL (SELECT 5) AND volume = ANY (SELECT volume FROM market_data) ORDER BY 1
SELECT * FROM market_data m, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.symbol = m.symbol) l ORDER BY m.symbol
SELECT m.symbol, l.x FROM market_data m CROSS JOIN LATERAL (SELECT m.volume + 1 AS x) l ORDER BY 1
SELECT symbol FROM market_data UNION SELECT symbol FROM orders ORDER BY 1
SELECT symbol FROM market_data UNION ALL SELECT symbol FROM orders ORDER BY 1
SELECT symbol FROM market_data EXCEPT SELECT symbol FROM orders ORDER BY 1
SELECT symbol FROM market_data INTERSECT SELECT symbol FROM orders ORDER BY 1
SELECT symbol FROM orders EXCEPT ALL SELECT symbol FROM market_data ORDER BY 1
SELECT 1 AS a, 2 AS b UNION ALL BY NAME SELECT 3 AS b, 4 AS a
(SELECT 1 AS a ORDER BY 1) UNION ALL (SELECT 2 LIMIT 1) ORDER BY a
SELECT * EXCLUDE (volume) FROM market_data ORDER BY symbol
SELECT * REPLACE (volume + 1 AS volume) FROM market_data ORDER BY symbol
SELECT * RENAME (volume AS v) FROM market_data ORDER BY symbol
SELECT m.* EXCLUDE (symbol) FROM market_data m ORDER BY volume
SELECT COLUMNS('.*_price') FROM market_data ORDER BY ALL
SELECT max(COLUMNS('.*_price')) FROM market_data
SELECT COLUMNS(lambda c: c LIKE '%price') FROM market_data ORDER BY ALL
SELECT COLUMNS(* EXCLUDE (symbol, timestamp)) FROM market_data ORDER BY ALL
SELECT * LIKE '%price' FROM market_data ORDER BY ALL
SELECT list_transform([1, 2, 3], lambda x: x + 1)
SELECT list_filter([1, 2, 3], lambda x, i: x > 1 AND i < 3), list_reduce([1, 2, 3], lambda a, b: a + b)
SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1] AS l
SELECT [1, 2, 3][1], [1, 2, 3][-1], [1, 2, 3][1:2], 'hello'[2:3], [1, 2, 3, 4][1:4:2]
SELECT {'a': 1, 'b': {'c': 2}} AS s, {'a': 1}.a, {'a': 5}['a']
SELECT s.a, s.b.c FROM (SELECT {'a': 1, 'b': {'c': 2}} AS s)
SELECT s.* FROM (SELECT {'a': 1, 'b': 2} AS s)
SELECT struct_pack(x := 1, y := 'a'), row(1, 2), (1, 'b')
SELECT map {'a': 1, 'b': 2} AS m, map {'a': 1}['a'], map(['k'], [1]), map_keys(map {'a': 1})
SELECT unnest([1, 2, 3]) AS x
SELECT u.x FROM unnest([1, 2, 3]) AS u(x)
SELECT t.id, u.v FROM (SELECT 1 AS id, [10, 20] AS l) t, unnest(t.l) AS u(v) ORDER BY ALL
SELECT unnest({'a': 1, 'b': 2})
SELECT unnest([{'a': 1}, {'a': 2}], recursive := true)
SELECT * FROM range(3)
SELECT i FROM range(1, 10, 3) t(i)
SELECT * FROM generate_series(1, 3) AS g(n)
SELECT range(3), generate_series(1, 3)
SELECT DATE '2026-01-31' + INTERVAL 1 MONTH, DATE '2026-01-31' - 1, DATE '2026-03-01' - DATE '2026-02-01'
SELECT INTERVAL 1 DAY, INTERVAL '1 day', INTERVAL '5' MINUTE, INTERVAL (2) HOUR, INTERVAL '1 day 02:03:04'
SELECT TIMESTAMP '2026-01-01 10:00:00' + INTERVAL '90 minutes' AS t
SELECT date_trunc('hour', TIMESTAMP '2026-01-01 10:17:00'), date_part('year', DATE '2026-01-01'), extract(month FROM DATE '2026-05-01')
SELECT time_bucket(INTERVAL '5 minutes', TIMESTAMP '2026-01-01 10:17:00') AS b, date_diff('day', DATE '2026-01-01', DATE '2026-02-01')
SELECT strftime(DATE '2026-01-02', '%Y/%m/%d'), strptime('2026-01-02', '%Y-%m-%d'), epoch_ms(TIMESTAMP '2026-01-01'), make_date(2026, 1, 2)
SELECT year(DATE '2026-01-02'), month(DATE '2026-01-02'), dayofweek(DATE '2026-01-02'), dayname(DATE '2026-01-02'), last_day(DATE '2026-02-02')
SELECT TIMESTAMPTZ '2026-01-01 10:00:00+00' AT TIME ZONE 'America/New_York' AS t
SELECT CAST('1' AS INTEGER), '2'::BIGINT, TRY_CAST('x' AS INT), '1.5'::DECIMAL(10, 2), 3::VARCHAR, '1'::INT::DOUBLE
SELECT CAST([1, 2] AS VARCHAR[]), '{"a": 1}'::JSON, [1]::INT[1], NULL::STRUCT(a INT, b VARCHAR), NULL::MAP(VARCHAR, INT)
SELECT '{"a": {"b": 7}}'::JSON -> 'a' -> 'b' AS j, '{"a": "x"}'::JSON ->> 'a' AS t, json_extract('{"a": 1}', '$.a')
SELECT CASE WHEN volume > 10 THEN 'big' ELSE 'small' END FROM market_data ORDER BY ALL
SELECT CASE side WHEN 'BUY' THEN 1 WHEN 'SELL' THEN -1 END AS sign FROM orders ORDER BY ALL
SELECT coalesce(NULL, 1), nullif(1, 1), ifnull(NULL, 2), greatest(1, 2), least(1, 2)
SELECT 'a' || 'b', concat('a', NULL, 'b'), upper('x'), lower('Y'), length('abc'), len('ab'), substring('hello', 2, 3), left('hello', 2), right('hello', 2)
SELECT replace('aXa', 'X', 'b'), trim('  x '), ltrim(' x'), rtrim('x '), lpad('7', 3, '0'), rpad('7', 3, '0'), repeat('ab', 2), reverse('abc')
SELECT substring('hello' FROM 2 FOR 2), trim(BOTH 'x' FROM 'xax'), position('l' IN 'hello') AS p, strpos('hello', 'l')
SELECT split_part('a-b-c', '-', 2), string_split('a,b', ','), regexp_replace('abc', 'b', 'x'), regexp_extract('a1b2', '[0-9]'), regexp_matches('abc', 'b')
SELECT 'hello'.upper(), 'a,b'.string_split(',').len()
SELECT 'abc' LIKE 'a%', 'abc' ILIKE 'A%', 'abc' GLOB 'a*', 'a_c' LIKE 'a$_c' ESCAPE '$', 'abc' SIMILAR TO 'a.c'
SELECT 'abc' ~ 'a.c' AS r, 'abc' !~ 'a.c' AS n, starts_with('abc', 'a'), 'abc' ^@ 'a' AS p
SELECT 7 / 2, 7 // 2, 7 % 2, 2 ** 3 AS p, 2 ^ 3 AS q, 1 << 3, 5 & 3, 5 | 3, ~5, abs(-1), @ -1 AS a
SELECT round(2.567, 2), floor(2.5), ceil(2.5), sqrt(4), ln(1), log(100), exp(0), pi(), power(2, 3), mod(7, 3), sign(-2), trunc(2.7)
SELECT 1 IN (1, 2), 3 NOT IN (1, 2), 2 BETWEEN 1 AND 3, 5 NOT BETWEEN 1 AND 3
SELECT NULL IS NULL, 1 IS NOT NULL, 1 IS DISTINCT FROM NULL, 1 IS NOT DISTINCT FROM 1, TRUE IS TRUE, NOT TRUE
SELECT 'x' NOT LIKE 'y', 'x' NOT ILIKE 'y', 1 ISNULL, 1 NOTNULL
SELECT 1 = 1 AND 2 <> 3 OR NOT 4 != 4, 1 == 1
SELECT 1e3, 1.50, 100000000000000000000, TRUE, NULL
SELECT 'it''s', E'a\nb\'c\\', $$dollar$$, '😀', 'a\b', e'\x41'
SELECT symbol FROM market_data ORDER BY bid_price DESC NULLS LAST, symbol LIMIT 2 OFFSET 1
SELECT symbol FROM market_data ORDER BY bid_price, symbol
SELECT symbol FROM market_data ORDER BY bid_price DESC, symbol
SELECT symbol FROM market_data ORDER BY bid_price NULLS FIRST, symbol DESC LIMIT 50%
SELECT symbol FROM market_data ORDER BY length(symbol), symbol COLLATE NOCASE
SELECT #1, #2 FROM market_data ORDER BY ALL
SELECT n: 1, m: 'x'
SELECT volume AS v, v + 1 AS w FROM market_data WHERE v > 3 ORDER BY w
SELECT t.a FROM (SELECT 1 AS a) AS t WHERE t.a = 1
SELECT a, b FROM (VALUES (1, 'x'), (2, 'y')) AS t(a, b) ORDER BY a
FROM (VALUES (1), (2)) t(x) SELECT sum(x)
SELECT sum(x) FROM (FROM range(5) r(x))
SELECT "symbol" FROM "market_data" WHERE "symbol" = 'AAA'
SELECT md.symbol AS "symbol" FROM market_data AS md ORDER BY "symbol"
SELECT hash('a') = hash('a'), md5('a'), sha256('a'), base64('a'::BLOB), to_hex(255), format('{} {}', 1, 'a'), printf('%d', 3)
SELECT bid_price IS NOT NULL, NOT (bid_price > 2 AND volume IS NOT NULL) FROM market_data
SELECT typeof(1), typeof(1.5), typeof('a'), pg_typeof(DATE '2026-01-01')
SELECT list_sort([3, 1, 2]), list_contains([1], 1), list_distinct([1, 1]).list_sort(), list_aggregate([1, 2], 'sum'), flatten([[1], [2]]), list_zip([1], [2])
SELECT array_length([1, 2]), list_value(1, 2), list_append([1], 2), list_concat([1], [2]), [1, 2] || [3], list_slice([1, 2, 3], 1, 2)
SELECT bar(5, 0, 10, 10), levenshtein('a', 'b'), jaccard('ab', 'bc'), ascii('a'), chr(65), unicode('a')
SELECT try_strptime('x', '%Y'), isfinite(1.0), isnan('nan'::DOUBLE), gcd(4, 6), factorial(5), bit_count(7)
SELECT symbol, bid_price FROM market_data WHERE (symbol, volume) IN (('AAA', 10), ('BBB', 20)) ORDER BY 1
SELECT order_id FROM orders WHERE created_at >= TIMESTAMPTZ '2026-01-01 00:00:00+00' AND created_at < TIMESTAMPTZ '2027-01-01 00:00:00+00' ORDER BY 1
SELECT currency, sum(quantity * average_price) AS value FROM positions GROUP BY currency ORDER BY currency
SELECT p.account, p.symbol, p.quantity * m.last_price AS marked FROM positions p JOIN market_data m USING (symbol) ORDER BY ALL
SELECT *, volume * 2 AS twice FROM market_data ORDER BY symbol
SELECT count() FROM market_data
SELECT max(symbol, 2), min_by(symbol, volume), first(symbol ORDER BY volume), last(symbol ORDER BY volume) FROM market_data
SELECT symbol, dense_rank() OVER (ORDER BY volume), ntile(2) OVER (ORDER BY symbol), percent_rank() OVER (ORDER BY symbol) FROM market_data ORDER BY 1
SELECT avg(bid_price) OVER (ORDER BY timestamp RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW) AS a FROM market_data ORDER BY 1
SELECT sum(volume) OVER (ORDER BY symbol ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW) AS a FROM market_data ORDER BY 1
SELECT /* a comment */ symbol -- another
  FROM market_data -- and one more
 ORDER BY 1;
