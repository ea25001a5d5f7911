-- Superset 4, PostgreSQL engine spec: cancel
SELECT pg_backend_pid()
