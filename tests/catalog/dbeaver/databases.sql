-- DBeaver 24, PostgreSQL driver: databases
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname ='thalweg'
ORDER BY db.datname
