-- pgcli 4.7.1: completion
SELECT d.datname
        FROM pg_catalog.pg_database d
        ORDER BY 1
