-- The monthly quota. In: what a web process has left and wants. Out: what it may spend, charged to the tenant's month.

-- open_month(month)
-- A tenant's month on first use, with what is counted of it already.
INSERT INTO month_quota (tenant_id, month, taken)
SELECT current_setting('app.current_tenant')::uuid, $1, coalesce(sum(accepted), 0) FROM daily_usage
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND day >= $1 AND day < $1 + interval '1 month'
ON CONFLICT DO NOTHING;

-- exchange_quota(month, rest, wanted, block, month_limit)
-- Gives the rest back (or pays what was spent on credit: a rest below 0) and takes a block, capped by what is left, and
-- at least what is wanted: so one batch may pass the limit, and after it none. With nothing left the rest stays.
UPDATE month_quota SET
    taken = taken - $2::bigint + CASE
        WHEN taken - $2::bigint < $5::bigint
            THEN greatest(least($4::bigint, $5::bigint - (taken - $2::bigint)), $3::bigint)
        ELSE greatest($2::bigint, 0)
    END,
    updated_at = now()
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND month = $1
RETURNING new.taken AS taken, new.taken - old.taken + $2::bigint AS granted, old.taken - $2::bigint < $5::bigint AS is_granted;

-- return_quota(month, unspent)
-- Gives back what a web process did not spend.
UPDATE month_quota SET taken = greatest(0, taken - $2::bigint), updated_at = now()
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND month = $1;
