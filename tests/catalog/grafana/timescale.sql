-- Grafana 11, PostgreSQL data source: TimescaleDB
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'
