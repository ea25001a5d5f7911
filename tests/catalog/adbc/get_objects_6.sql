-- adbc-driver-postgresql 1.13.0: get_objects
SELECT datname FROM pg_catalog.pg_database
