-- pgcli 4.7.1: completion
SELECT * FROM unnest(current_schemas(true))
