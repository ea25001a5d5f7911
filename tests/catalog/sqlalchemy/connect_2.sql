-- SQLAlchemy 2.1.9 with psycopg 3.3.9: connect
select current_schema()
