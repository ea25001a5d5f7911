-- asyncpg 0.32.0: introspect
SELECT
                        current_setting('jit') AS cur,
                        set_config('jit', 'off', false) AS new
