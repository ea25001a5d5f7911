-- Metabase 0.50, PostgreSQL driver: time zone
SELECT current_setting('TIMEZONE') AS tz
