-- People log in, and some try to get in as somebody else. Who is it, and did they succeed?
--
-- `thalweg up --demo` applies this file and sends such messages; `thalweg demo` sends them to a Kafka of yours.

CREATE EXTERNAL TABLE IF NOT EXISTS login_attempts (
  account STRING NOT NULL,
  address STRING NOT NULL,
  country STRING,
  ts TIMESTAMP NOT NULL,
  success BOOLEAN NOT NULL
)
STORED AS KAFKA LOCATION 'login_attempts'
OPTIONS ('format' 'json', 'event_time' 'ts');

-- Failed logins per address and minute: what a rate limit or an alert looks at.
CREATE MATERIALIZED VIEW IF NOT EXISTS failed_logins AS
  SELECT address,
         date_bin(INTERVAL '1 minute', ts) AS minute,
         count(*) AS failures,
         approx_distinct(account) AS accounts
  FROM login_attempts
  WHERE NOT success
  GROUP BY 1, 2;

-- How many people were here, per hour. A person who logs in five times counts once, which a sum over minutes could not
-- say: distinct counts do not add up, their states do.
CREATE MATERIALIZED VIEW IF NOT EXISTS login_hours AS
  SELECT date_trunc('hour', ts) AS hour,
         count(*) AS attempts,
         count(*) FILTER (WHERE NOT success) AS failures,
         approx_distinct(account) FILTER (WHERE success) AS people,
         approx_distinct(address) AS addresses
  FROM login_attempts
  GROUP BY 1;

-- Addresses that nobody should trust: they try many accounts and hardly ever know the password.
CREATE MATERIALIZED VIEW IF NOT EXISTS suspicious_addresses AS
  SELECT address,
         count(*) AS attempts,
         count(*) FILTER (WHERE NOT success) AS failures,
         count(*) FILTER (WHERE success) AS break_ins,
         approx_distinct(account) AS accounts,
         min(ts) AS first_seen,
         max(ts) AS last_seen
  FROM login_attempts
  GROUP BY address
  HAVING count(*) FILTER (WHERE NOT success) >= 30
     AND count(*) FILTER (WHERE success) * 10 < count(*);
