-- What an export of a tenant holds. In: the tenant of the transaction. Out: its tables, their rows as lines of JSON.

-- list_columns()
-- Every column of tables of the tenant, of the tenant itself and of its people, that the application may read; whether
-- it is left out, since it is a secret or means nothing outside; and the keys by which the table is read in order.
SELECT c.relname AS name, format('%I', a.attname) AS column_name,
    (a.atttypid = 'bytea'::regtype AND c.relname <> 'audit_log')
        OR a.attname ~ '(password|secret|token|sealed|private_key|lease)' AS is_left_out,
    a.atttypid = 'bytea'::regtype AS is_binary,
    format_type(a.atttypid, a.atttypmod) AS type,
    array_position(i.indkey::smallint[], a.attnum) AS key_place,
    CASE c.relname WHEN 'tenants' THEN 'id' WHEN 'people' THEN '' ELSE 'tenant_id' END AS owner_column
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND has_column_privilege(c.oid, a.attnum, 'SELECT')
    AND (c.relname IN ('tenants', 'people') OR EXISTS (
        SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped))
ORDER BY c.relname, a.attnum;

-- next_rows(...)
-- A bite of a table's rows in the order of its keys, each as a line and the place to go on from. Row-level security
-- decides whose rows they are; the condition only finds them by the key.
SELECT row_to_json((SELECT line FROM (SELECT {columns}) line))::text AS line, ARRAY[{places}]::text[] AS place
FROM {table} t WHERE {condition} ORDER BY {keys} LIMIT {most};
