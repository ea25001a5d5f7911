-- asyncpg 0.32.0: introspect
-- $1 = 'on'
SELECT
                    set_config('jit', $1, false)
