-- DBeaver 24, PostgreSQL driver: view source
SELECT pg_catalog.pg_get_viewdef(@totals@, true)
