-- DataGrip 2024: tables
select T.relkind as table_kind, T.relname as table_name, T.oid as table_id, T.relpersistence as table_persistence, pg_catalog.pg_get_userbyid(T.relowner) as "owner"
from pg_catalog.pg_class T
where relnamespace = 2200::oid and relkind in ('r', 'm', 'v', 'f', 'p')
order by table_kind, table_id
