-- psql 15.18 (Debian), -E: \d+ totals
SELECT pg_catalog.pg_get_viewdef('@totals@'::pg_catalog.oid, true)
