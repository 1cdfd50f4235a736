-- Tenants and keys. In: a key's hash or id, or an operator's chore. Out: what the doors need to know of the caller.

-- find_key_by_secret(secret_hash)
-- The live key of a bearer secret, with its tenant.
SELECT k.id, k.kind, k.scopes, k.origins, k.is_unsigned, k.expires_at, ARRAY[]::bytea[] AS sealed,
    t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at
FROM api_key_secrets s
JOIN api_keys k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
JOIN tenants t ON t.id = k.tenant_id
WHERE s.secret_hash = $1 AND k.revoked_at IS NULL
    AND (s.expires_at IS NULL OR s.expires_at > now()) AND (k.expires_at IS NULL OR k.expires_at > now());

-- find_key_by_id(key_id)
-- The live key with this id, with its tenant and its live signing secrets.
SELECT k.id, k.kind, k.scopes, k.origins, k.is_unsigned, k.expires_at,
    ARRAY(
        SELECT s.sealed_secret FROM api_key_secrets s
        WHERE s.tenant_id = k.tenant_id AND s.key_id = k.id AND s.sealed_secret IS NOT NULL
            AND (s.expires_at IS NULL OR s.expires_at > now())
        ORDER BY s.created_at DESC LIMIT 2
    ) AS sealed,
    t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());

-- touch_key(tenant_id, key_id)
-- Notes that a key was used; at most once a minute, asked for off the path of requests.
UPDATE api_keys SET last_used_at = now()
WHERE tenant_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- month_usage(tenant_id, month_start)
-- Events counted for a tenant since the first of the month (UTC).
SELECT coalesce(sum(accepted), 0)::bigint AS accepted FROM daily_usage WHERE tenant_id = $1 AND day >= $2;

-- find_known_ids(event_ids)
-- Which of these ids the ledger already has for the tenant.
SELECT event_id FROM event_ids
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND event_id = ANY($1::uuid[]);

-- insert_tenant(id, slug, name, tier, is_demo)
-- One new tenant; nothing when the slug is taken.
INSERT INTO tenants (id, slug, name, tier, is_demo) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (slug) DO NOTHING RETURNING created_at;

-- list_tenants()
-- All tenants, by slug.
SELECT id AS tenant_id, slug, name, tier, created_at, is_demo, ends_at FROM tenants ORDER BY slug;

-- find_tenant(slug)
-- One tenant by slug.
SELECT id AS tenant_id, slug, name, tier, created_at, is_demo, ends_at FROM tenants WHERE slug = $1;

-- spread_tenant(id, sub_keys)
-- Over how many partitions a tenant's records may go.
UPDATE tenants SET sub_keys = $2 WHERE id = $1;

-- hold_tier(tenant_id)
-- Waits until nobody counts under the tenant's tier, and keeps others from it until the end; see maintenance.hold_tiers.
SELECT pg_advisory_xact_lock(hashtext('maintenance.hold_tiers'), hashtext($1::uuid::text));

-- change_tier(id, tier)
-- Another tier, and a note that events stand in the class of the one before; nothing when it is the same.
UPDATE tenants SET tier = $2, moving_since = clock_timestamp() WHERE id = $1 AND tier <> $2
RETURNING old.tier AS old_tier;

-- rename_tenant(id, name)
-- Another name; nothing when it is the same.
UPDATE tenants SET name = $2 WHERE id = $1 AND name <> $2 RETURNING old.name AS old_name;
