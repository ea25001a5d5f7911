-- SQLAlchemy 2.1.9 with psycopg 3.3.9: reflect
-- $1 = 'r'
-- $2 = 'p'
-- $3 = 'f'
-- $4 = 'v'
-- $5 = 'm'
-- $6 = 'pg_catalog'
-- $7 = 'sensor_data'
-- $8 = 'totals'
SELECT pg_catalog.pg_class.oid, pg_catalog.pg_class.relname 
FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace 
WHERE pg_catalog.pg_class.relkind = ANY (ARRAY[$1::VARCHAR, $2::VARCHAR, $3::VARCHAR, $4::VARCHAR, $5::VARCHAR]) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != $6::VARCHAR AND pg_catalog.pg_class.relname IN ($7::VARCHAR, $8::VARCHAR)
