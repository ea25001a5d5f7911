-- A stream: a Kafka topic whose messages are JSON objects with these fields; others are ignored.
-- A message that does not fit is kept as a reject: SELECT * FROM rejects.sensor_data.
CREATE EXTERNAL TABLE IF NOT EXISTS sensor_data (
  device STRING NOT NULL,
  ts TIMESTAMP NOT NULL,
  temperature DOUBLE
)
STORED AS KAFKA LOCATION 'sensor_data'
OPTIONS ('format' 'json', 'event_time' 'ts');

-- A view: an aggregate that is kept up to date and exact. OR REPLACE rebuilds it only if its meaning changed.
CREATE OR REPLACE MATERIALIZED VIEW device_minutes AS
SELECT
  device,
  date_bin(INTERVAL '1 minute', ts) AS minute,
  count(*) AS readings,
  avg(temperature) AS mean,
  max(temperature) AS peak,
  count(*) FILTER (WHERE temperature > 100) AS alarms
FROM sensor_data
GROUP BY 1, 2;
