-- Power BI Desktop, PostgreSQL connector
select character_set_name from INFORMATION_SCHEMA.character_sets
