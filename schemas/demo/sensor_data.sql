-- Machines at five sites send their temperature. Where is it getting hot, and which sensor is no longer to be believed?
--
-- `thalweg up --demo` applies this file and sends such messages; `thalweg demo` sends them to a Kafka of yours.

CREATE EXTERNAL TABLE IF NOT EXISTS sensor_data (
  device STRING NOT NULL,
  site STRING NOT NULL,
  ts TIMESTAMP NOT NULL,
  temperature DOUBLE
)
-- LOCATION is the topic. Which Kafka it is on is a setting of the process (--kafka bootstrap.servers=…), so that this
-- file is good for all of them.
STORED AS KAFKA LOCATION 'sensor_data'
OPTIONS ('format' 'json', 'event_time' 'ts');

-- How every machine is doing, minute by minute. A mean hides the one hot reading; the 99th percentile shows it.
CREATE MATERIALIZED VIEW IF NOT EXISTS device_minutes AS
  SELECT device,
         date_bin(INTERVAL '1 minute', ts) AS minute,
         count(*) AS readings,
         avg(temperature) AS mean,
         max(temperature) AS peak,
         approx_percentile_cont(temperature, 0.99) AS p99
  FROM sensor_data
  GROUP BY 1, 2;

-- Alarms: readings above 100 degrees, per site and hour, and what the hottest machine was.
CREATE MATERIALIZED VIEW IF NOT EXISTS site_alarms AS
  SELECT site,
         date_trunc('hour', ts) AS hour,
         count(*) AS readings,
         count(*) FILTER (WHERE temperature > 100) AS alarms,
         max(temperature) AS hottest,
         first_value(device ORDER BY temperature DESC, ts) AS hottest_device
  FROM sensor_data
  GROUP BY 1, 2;

-- Sensors that are stuck: whoever says the same twenty times in ten minutes, to a tenth of a degree, does not measure.
-- HAVING is part of the view; readings that come late can end the suspicion.
CREATE MATERIALIZED VIEW IF NOT EXISTS stuck_sensors AS
  SELECT device,
         date_bin(INTERVAL '10 minutes', ts) AS since,
         count(*) AS readings,
         min(temperature) AS temperature
  FROM sensor_data
  GROUP BY 1, 2
  HAVING count(*) >= 20 AND min(temperature) = max(temperature);
