-- pgcli 4.7.1: completion
SELECT  nspname
        FROM    pg_catalog.pg_namespace
        ORDER BY 1
