-- Grafana 11, PostgreSQL data source: tables
select
          case when quote_ident(table_schema) IN (
            SELECT
              CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
            FROM
              generate_series(
                array_lower(string_to_array(current_setting('search_path'),','),1),
                array_upper(string_to_array(current_setting('search_path'),','),1)
              ) as i,
              string_to_array(current_setting('search_path'),',') s
            ) THEN quote_ident(table_name)
          ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) end as "table"
          from information_schema.tables
          where quote_ident(table_schema) NOT IN (
            'information_schema',
            'pg_catalog',
            '_timescaledb_cache',
            '_timescaledb_catalog',
            '_timescaledb_internal',
            '_timescaledb_config',
            'timescaledb_information',
            'timescaledb_experimental'
          )
          ORDER BY CASE WHEN quote_ident(table_schema) IN (
            SELECT
              CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
            FROM
              generate_series(
                array_lower(string_to_array(current_setting('search_path'),','),1),
                array_upper(string_to_array(current_setting('search_path'),','),1)
              ) as i,
              string_to_array(current_setting('search_path'),',') s
            ) THEN 0 ELSE 1 END, 1
