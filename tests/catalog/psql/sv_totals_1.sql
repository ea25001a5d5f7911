-- psql 15.18 (Debian), -E: \sv totals
SELECT 'totals'::pg_catalog.regclass::pg_catalog.oid
