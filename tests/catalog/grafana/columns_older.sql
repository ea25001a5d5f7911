-- Grafana 8, PostgreSQL data source: columns of a table
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'sensor_data' AND data_type IN ('timestamp without time zone','timestamp with time zone','bigint','integer','double precision','real') ORDER BY 1
