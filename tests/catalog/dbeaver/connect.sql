-- DBeaver 24, PostgreSQL driver: connection
SELECT current_schema(),session_user
