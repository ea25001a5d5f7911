CREATE EXTERNAL TABLE IF NOT EXISTS readings (
  device STRING NOT NULL, ts TIMESTAMP, temperature DOUBLE, cost DECIMAL(12, 2), counter BIGINT, ok BOOLEAN, note STRING
) STORED AS KAFKA LOCATION 'readings'
  OPTIONS ('format' 'json', 'event_time' 'ts');

-- A topic in which nobody has written anything.
CREATE EXTERNAL TABLE IF NOT EXISTS silence (word STRING, volume DOUBLE)
  STORED AS KAFKA LOCATION 'silence' OPTIONS ('format' 'json');

CREATE MATERIALIZED VIEW IF NOT EXISTS device_minutes AS
  SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS events, avg(temperature) AS mean,
         max(temperature) AS peak, sum(cost) AS cost, count(*) FILTER (WHERE temperature > 70) AS alarms
  FROM readings GROUP BY 1, 2;

CREATE MATERIALIZED VIEW IF NOT EXISTS totals AS
  SELECT count(*) AS events, count(temperature) AS measured, count(DISTINCT device) AS devices, sum(cost) AS cost,
         min(ts) AS first, max(ts) AS latest, bool_and(ok) AS all_ok, sum(counter) / count(*) AS share
  FROM readings;

CREATE MATERIALIZED VIEW IF NOT EXISTS busy AS
  SELECT device, count(*) AS events, max(counter) - min(counter) AS width FROM readings
  WHERE note <> '' GROUP BY device HAVING count(*) > 10;

CREATE MATERIALIZED VIEW IF NOT EXISTS edges AS
  SELECT device, first_value(note ORDER BY ts) AS opened, last_value(note ORDER BY ts) AS closed,
         string_agg(DISTINCT note, ',' ORDER BY note) AS notes, approx_distinct(note) AS about
  FROM readings GROUP BY device;

CREATE MATERIALIZED VIEW IF NOT EXISTS silence_totals AS
  SELECT count(*) AS words, max(volume) AS loudest, sum(volume) AS volume FROM silence;

CREATE MATERIALIZED VIEW IF NOT EXISTS silence_words AS
  SELECT word, count(*) AS times FROM silence GROUP BY word;

-- Lists and structs.
CREATE EXTERNAL TABLE IF NOT EXISTS baskets (
  customer STRING, tags STRING[], items STRUCT<sku STRING, price DECIMAL(10, 2)>[], at TIMESTAMP
) STORED AS KAFKA LOCATION 'baskets' OPTIONS ('format' 'json');

-- Numbers at the ends of their types, and times at the ends of the calendar.
CREATE EXTERNAL TABLE IF NOT EXISTS numbers (
  k STRING, qty INT, cents INT, n BIGINT, d DECIMAL(38, 0), v DOUBLE, at TIMESTAMP, tz TIMESTAMP WITH TIME ZONE,
  width BIGINT
) STORED AS KAFKA LOCATION 'numbers' OPTIONS ('format' 'json');

CREATE MATERIALIZED VIEW IF NOT EXISTS number_sums AS
  SELECT k, sum(n) AS n, sum(d) AS d, min(v) AS least, max(v) AS greatest FROM numbers GROUP BY k;

CREATE MATERIALIZED VIEW IF NOT EXISTS number_months AS
  SELECT date_trunc('month', at) AS month, lpad(k, width, '0') AS padded, count(*) AS rows FROM numbers GROUP BY 1, 2;

CREATE MATERIALIZED VIEW IF NOT EXISTS number_days AS
  SELECT date_bin(INTERVAL '1 day', tz AT TIME ZONE 'Europe/Berlin') AS day, count(*) AS rows FROM numbers GROUP BY 1;

-- Lines of a log, as they are.
CREATE EXTERNAL TABLE IF NOT EXISTS lines (line STRING NOT NULL) STORED AS KAFKA LOCATION 'lines' OPTIONS ('format' 'raw');

CREATE MATERIALIZED VIEW IF NOT EXISTS line_answers AS
  SELECT nullif(split_part(line, ' ', 8), '') AS status, count(*) AS lines, max(length(line)) AS longest FROM lines
  GROUP BY 1;
