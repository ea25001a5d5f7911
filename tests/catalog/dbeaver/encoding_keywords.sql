-- DBeaver 24, PostgreSQL driver: keywords
select string_agg(word, ',') from pg_catalog.pg_get_keywords()
