-- Grafana 11, PostgreSQL data source: columns of a table
select quote_ident(column_name) as "column", data_type as "type"
          from information_schema.columns
          where
            case when array_length(parse_ident('sensor_data'),1) = 2
              then quote_ident(table_schema) = (parse_ident('sensor_data'))[1]
                and quote_ident(table_name) = (parse_ident('sensor_data'))[2]
              else quote_ident(table_name) = 'sensor_data'
                and quote_ident(table_schema) IN ('public')
            end
