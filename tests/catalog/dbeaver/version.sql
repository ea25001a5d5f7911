-- DBeaver 24, PostgreSQL driver: connection
SELECT version()
