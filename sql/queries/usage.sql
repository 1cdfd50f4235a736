-- What a tenant used. In: days. Out: events counted, by month, day or key; what the doors handed out of a month.

-- usage_of_month(starts_on, ends_before)
-- Events counted for the tenant by receipt within a month, and what of it was handed out to the doors.
SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(duplicates), 0)::bigint AS duplicates,
    coalesce((
        SELECT taken FROM month_quota
        WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND month = $1
    ), 0) AS taken
FROM daily_usage
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND day >= $1 AND day < $2;

-- usage_by_day(starts_on, ends_before, key_id)
-- The same by day, those on which something came; of one key, or of all.
SELECT day, sum(accepted)::bigint AS accepted, sum(duplicates)::bigint AS duplicates FROM daily_usage
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND day >= $1 AND day < $2
    AND ($3::text IS NULL OR key_id = $3)
GROUP BY day ORDER BY day;

-- usage_by_key(starts_on, ends_before, most)
-- The same by key, the busiest first.
SELECT key_id, sum(accepted)::bigint AS accepted, sum(duplicates)::bigint AS duplicates FROM daily_usage
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND day >= $1 AND day < $2
GROUP BY key_id ORDER BY 2 DESC, 3 DESC, 1 LIMIT $3;
