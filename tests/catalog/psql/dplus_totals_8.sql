-- psql 15.18 (Debian), -E: \d+ totals
SELECT r.rulename, trim(trailing ';' from pg_catalog.pg_get_ruledef(r.oid, true))
FROM pg_catalog.pg_rewrite r
WHERE r.ev_class = '@totals@' AND r.rulename != '_RETURN' ORDER BY 1
