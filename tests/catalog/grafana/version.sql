-- Grafana 11, PostgreSQL data source: version
SELECT current_setting('server_version_num')::int/100 as version
