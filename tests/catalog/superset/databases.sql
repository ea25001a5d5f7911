-- Superset 4, PostgreSQL engine spec: catalogs
SELECT datname FROM pg_database
WHERE datistemplate = false
