-- Share links. In: an object's manager, or a token at the door. Out: links, never a token.

-- columns(...)
-- What makes up a link.
id, object_kind, object_id, name, locked_filters::text AS locked_filters, ranges, filter_dimensions, cost_per_minute,
rows_per_hour, created_at, created_by, expires_at, revoked_at, last_used_at, uses;

-- insert_link(id, object_kind, object_id, name, token_hash, locked_filters, ranges, filter_dimensions, cost_per_minute, rows_per_hour, actor, expires_at)
-- A new one.
INSERT INTO share_links (tenant_id, id, object_kind, object_id, name, token_hash, locked_filters, ranges,
    filter_dimensions, cost_per_minute, rows_per_hour, created_by, expires_at)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11, $12)
RETURNING {columns};

-- count_live_links(object_kind, object_id)
-- How many of an object's are neither revoked nor past their end.
SELECT count(*) AS count FROM share_links
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND object_kind = $1 AND object_id = $2
    AND revoked_at IS NULL AND expires_at > now();

-- lock_object_links(object)
-- Makers of links to one object wait for each other, so that they are counted.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0));

-- list_links(object_kind, object_ids, most)
-- The links of some objects, newest first, so many of each.
SELECT l.* FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
    SELECT {columns} FROM share_links
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND object_kind = $1
        AND object_id = wanted.id
    ORDER BY created_at DESC, share_links.id DESC LIMIT $3
) AS l;

-- find_links(ids)
-- Some by their ids.
SELECT {columns} FROM share_links
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::uuid[]);

-- revoke_link(id, actor)
-- Ends one; no row when it had ended so.
UPDATE share_links SET revoked_at = now(), revoked_by = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1 AND revoked_at IS NULL
RETURNING {columns};

-- find_link_by_token(token_hash)
-- For the door: the live link of a token, its tenant, and what its maker is now: a member's role, a live key's scopes.
SELECT l.id, l.object_kind, l.object_id, l.locked_filters::text AS locked_filters, l.ranges, l.filter_dimensions,
    l.cost_per_minute, l.rows_per_hour, l.expires_at, l.created_by, m.role AS maker_role, k.scopes AS maker_scopes,
    t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at
FROM share_links l
JOIN tenants t ON t.id = l.tenant_id
LEFT JOIN members m ON m.tenant_id = l.tenant_id AND 'person:' || m.person_id = l.created_by
    AND EXISTS (SELECT FROM people p WHERE p.id = m.person_id AND p.disabled_at IS NULL)
LEFT JOIN api_keys k ON k.tenant_id = l.tenant_id AND k.id = l.created_by AND k.revoked_at IS NULL
    AND (k.expires_at IS NULL OR k.expires_at > now())
WHERE l.token_hash = $1 AND l.revoked_at IS NULL AND l.expires_at > now();

-- note_uses(tenant_id, id, uses)
-- Counts uses of a link, some seconds of them at once.
UPDATE share_links SET uses = uses + $3, last_used_at = now() WHERE tenant_id = $1 AND id = $2;

-- purge_links(before, most)
-- The end of links that ended before a moment.
DELETE FROM share_links WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM share_links WHERE least(expires_at, revoked_at) < $1 LIMIT $2
);
