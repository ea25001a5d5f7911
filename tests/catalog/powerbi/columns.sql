-- Power BI Desktop, PostgreSQL connector
select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') then DATA_TYPE || ' unsigned' else DATA_TYPE end as DATA_TYPE
from INFORMATION_SCHEMA.columns
where TABLE_SCHEMA = 'public' and TABLE_NAME = 'sensor_data'
order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION
