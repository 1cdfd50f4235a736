-- A tenant's API keys, as its administrator and the operator see and change them. In: a key's id. Out: never a secret.

-- insert_key(tenant_id, id, kind, name, scopes, origins, is_unsigned, expires_at)
-- One new key; its secret goes into api_key_secrets.
INSERT INTO api_keys (tenant_id, id, kind, name, scopes, origins, is_unsigned, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- insert_secret(tenant_id, key_id, secret_hash, sealed_secret)
-- One live secret of a key.
INSERT INTO api_key_secrets (tenant_id, key_id, secret_hash, sealed_secret) VALUES ($1, $2, $3, $4);

-- lock_key(tenant_id, key_id)
-- A key, so that two who change it come one after the other.
SELECT id, kind, name, scopes, origins, is_unsigned, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- end_old_secrets(tenant_id, key_id, at_once)
-- Ends at once what would have ended, or all; the hashes are of no use any more.
DELETE FROM api_key_secrets WHERE tenant_id = $1 AND key_id = $2 AND (expires_at IS NOT NULL OR $3::boolean);

-- expire_secrets(tenant_id, key_id, expires_at)
-- Gives the secret that has no end yet one: rotation's overlap.
UPDATE api_key_secrets SET expires_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND expires_at IS NULL;

-- update_key(tenant_id, key_id, name, origins, expires_at)
-- What of a key may change.
UPDATE api_keys SET name = $3, origins = $4, expires_at = $5 WHERE tenant_id = $1 AND id = $2;

-- revoke_key(tenant_id, key_id)
-- Ends a key at once.
UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING revoked_at;

-- list_keys(first, before, before_id)
-- A page of the tenant's keys, newest first, from a place on; all of them when `first` is null.
SELECT id, kind, name, scopes, origins, is_unsigned, created_at, expires_at, revoked_at, last_used_at
FROM api_keys
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::text))
ORDER BY created_at DESC, id DESC LIMIT $1;

-- count_keys()
-- How many keys the tenant has, those that ended too.
SELECT count(*) AS count FROM api_keys WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- count_made()
-- How many of the tenant's keys are live, and how many were made within a day.
SELECT count(*) FILTER (WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) AS live,
    count(*) FILTER (WHERE created_at > now() - interval '1 day') AS made
FROM api_keys WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- find_keys(key_ids)
-- Keys by their ids.
SELECT id, kind, name, scopes, origins, is_unsigned, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::text[]);

-- list_live_secrets(key_ids)
-- When the live secrets of keys were made and when they end, newest first; neither hash nor seal.
SELECT s.key_id, s.created_at, s.expires_at
FROM api_key_secrets s JOIN api_keys k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
WHERE s.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND s.key_id = ANY($1::text[])
    AND k.revoked_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now())
    AND (k.expires_at IS NULL OR k.expires_at > now())
ORDER BY s.key_id, s.created_at DESC;
