-- DataGrip 2024: schemas
select N.oid::bigint as id, N.nspname as name, D.description, pg_catalog.pg_get_userbyid(N.nspowner) as "owner"
from pg_catalog.pg_namespace N
  left join pg_catalog.pg_description D on N.oid = D.objoid
order by case when N.nspname = pg_catalog.current_schema() then -1::bigint else N.oid::bigint end
