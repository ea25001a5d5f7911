-- DBeaver 24, PostgreSQL driver: settings
select * from pg_catalog.pg_settings where name='standard_conforming_strings'
