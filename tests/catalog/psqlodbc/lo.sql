-- psqlodbc 16 (Excel): connection
select oid, typbasetype from pg_type where typname = 'lo'
