-- DBeaver 24, PostgreSQL driver: search
SELECT x.oid,x.relname,x.relnamespace,x.relkind,d.description FROM pg_catalog.pg_class x
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=x.oid AND d.objsubid=0
WHERE x.relkind in('r','v','m') AND x.relnamespace IN (2200) AND x.relname ILIKE '%sens%'
ORDER BY x.relname LIMIT 100
