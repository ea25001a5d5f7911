-- Trades of a few shares, as they come from an exchange: out of order, some late, some twice.
--
-- `thalweg up --demo` applies this file and sends such messages; `thalweg demo` sends them to a Kafka of yours.

CREATE EXTERNAL TABLE IF NOT EXISTS stock_prices (
  symbol STRING NOT NULL,
  ts TIMESTAMP NOT NULL,
  price DECIMAL(12, 2) NOT NULL,
  volume BIGINT NOT NULL
)
STORED AS KAFKA LOCATION 'stock_prices'
OPTIONS ('format' 'json', 'event_time' 'ts');

-- Bars: open, high, low, close and volume per minute. The order inside first_value and last_value is the time of the
-- trade, so a trade that comes late still changes the right bar.
CREATE MATERIALIZED VIEW IF NOT EXISTS stock_bars AS
  SELECT symbol,
         date_bin(INTERVAL '1 minute', ts) AS minute,
         first_value(price ORDER BY ts) AS open,
         max(price) AS high,
         min(price) AS low,
         last_value(price ORDER BY ts) AS close,
         sum(volume) AS volume,
         count(*) AS trades
  FROM stock_prices
  GROUP BY 1, 2;

-- The volume-weighted average price per hour: a quotient of two sums, each of which is exact.
CREATE MATERIALIZED VIEW IF NOT EXISTS stock_vwap AS
  SELECT symbol,
         date_trunc('hour', ts) AS hour,
         CAST(sum(price * volume) AS DOUBLE) / sum(volume) AS vwap,
         sum(price * volume) AS turnover,
         sum(volume) AS volume
  FROM stock_prices
  GROUP BY 1, 2;

-- The day at a glance: range, spread and the last trade.
CREATE MATERIALIZED VIEW IF NOT EXISTS stock_days AS
  SELECT symbol,
         date_trunc('day', ts) AS day,
         min(price) AS low,
         max(price) AS high,
         stddev(CAST(price AS DOUBLE)) AS spread,
         last_value(price ORDER BY ts) AS last,
         max(ts) AS last_at
  FROM stock_prices
  GROUP BY 1, 2;
