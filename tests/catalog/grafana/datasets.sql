-- Grafana 11, PostgreSQL data source: schemas
select schema_name from information_schema.schemata where schema_name not like 'pg_%' and schema_name <> 'information_schema' order by 1
