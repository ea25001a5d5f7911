-- pgjdbc 42.7.8: limits
SELECT setting FROM pg_catalog.pg_settings WHERE name='default_transaction_isolation'
