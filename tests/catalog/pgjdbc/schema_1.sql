-- pgjdbc 42.7.8: schema
select current_schema()
