-- Sessions of people. In: hashes of refresh tokens, or ids. Out: what a session is worth.

-- find_membership(person_id, tenant_id)
-- What a person who may sign in is in one tenant.
SELECT m.role FROM members m JOIN people p ON p.id = m.person_id
WHERE m.person_id = $1 AND m.tenant_id = $2 AND p.disabled_at IS NULL;

-- find_membership_by_slug(person_id, slug)
-- The same by the tenant's slug, with the tenant.
SELECT t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at, m.role, m.created_at AS since
FROM members m JOIN tenants t ON t.id = m.tenant_id JOIN people p ON p.id = m.person_id
WHERE m.person_id = $1 AND t.slug = $2 AND p.disabled_at IS NULL;

-- insert_session(id, tenant_id, person_id, is_locked, method, address, agent, family_hash, token_hash, life)
-- A new session.
INSERT INTO sessions (id, tenant_id, person_id, is_locked, method, address, agent, family_hash, token_hash, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::interval) RETURNING expires_at;

-- forget_sessions(before, most)
-- The end of those that were made before a moment.
DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE created_at < $1 LIMIT $2);

-- end_oldest_sessions(person_id, kept)
-- Of more live sessions than are kept, those that were not used for longest.
UPDATE sessions SET revoked_at = now(), revoked_reason = 'too_many'
WHERE id IN (
    SELECT id FROM sessions WHERE person_id = $1 AND revoked_at IS NULL
    ORDER BY last_used_at DESC, id DESC OFFSET $2
)
RETURNING id, tenant_id;

-- lock_session_of_family(family_hash, idle, grace)
-- The session of a refresh token, for this transaction alone; by the clock, as it may have waited for another.
SELECT s.id, s.tenant_id, s.person_id, s.is_locked, s.token_hash, s.previous_hash, s.sealed_token, s.revoked_at, s.expires_at,
    s.expires_at <= clock_timestamp() OR s.last_used_at < clock_timestamp() - $2::interval AS has_expired,
    coalesce(clock_timestamp() - s.rotated_at <= $3::interval, false) AS is_in_grace,
    p.disabled_at IS NOT NULL AS is_disabled
FROM sessions s JOIN people p ON p.id = s.person_id
WHERE s.family_hash = $1 FOR UPDATE OF s;

-- lock_session(id)
-- A session, for this transaction alone.
SELECT tenant_id, person_id, is_locked, revoked_at FROM sessions WHERE id = $1 FOR UPDATE;

-- rotate_token(id, token_hash, sealed_token, address, agent)
-- Another refresh token in the place of the current one.
UPDATE sessions SET previous_hash = token_hash, token_hash = $2, sealed_token = $3, address = $4, agent = $5,
    rotated_at = clock_timestamp(), last_used_at = clock_timestamp()
WHERE id = $1;

-- move_session(id, tenant_id)
-- Another tenant.
UPDATE sessions SET tenant_id = $2, last_used_at = now() WHERE id = $1;

-- revoke_sessions(person_id, tenant_id, session_id, keep, reason)
-- Ends a person's live sessions: all, a tenant's, or one.
UPDATE sessions SET revoked_at = now(), revoked_reason = $5
WHERE person_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR tenant_id = $2)
    AND ($3::uuid IS NULL OR id = $3) AND ($4::uuid IS NULL OR id <> $4)
RETURNING id, tenant_id;

-- list_sessions(person_id, tenant_id, idle, most, before_at, before_id)
-- A person's live sessions, or (not null) those in one tenant, the last used first, from a place on.
SELECT s.id, s.tenant_id, s.method, s.address, s.agent, s.is_locked, s.created_at, s.last_used_at, s.expires_at, t.slug
FROM sessions s JOIN tenants t ON t.id = s.tenant_id
WHERE s.person_id = $1 AND ($2::uuid IS NULL OR s.tenant_id = $2)
    AND s.revoked_at IS NULL AND s.expires_at > now() AND s.last_used_at > now() - $3::interval
    AND ($5::timestamptz IS NULL OR (s.last_used_at, s.id) < ($5, $6::uuid))
ORDER BY s.last_used_at DESC, s.id DESC LIMIT $4;

-- find_sessions(person_id, tenant_id, idle, ids)
-- Some of them by their ids.
SELECT s.id, s.tenant_id, s.method, s.address, s.agent, s.is_locked, s.created_at, s.last_used_at, s.expires_at, t.slug
FROM sessions s JOIN tenants t ON t.id = s.tenant_id
WHERE s.id = ANY($4::uuid[]) AND s.person_id = $1 AND ($2::uuid IS NULL OR s.tenant_id = $2)
    AND s.revoked_at IS NULL AND s.expires_at > now() AND s.last_used_at > now() - $3::interval;

-- count_sessions(person_id, tenant_id, idle)
-- How many there are.
SELECT count(*) FROM sessions s
WHERE s.person_id = $1 AND ($2::uuid IS NULL OR s.tenant_id = $2)
    AND s.revoked_at IS NULL AND s.expires_at > now() AND s.last_used_at > now() - $3::interval;

-- find_session_state(id)
-- Whether a session is good, where it is, and what its person is there.
SELECT s.person_id, s.expires_at, s.is_locked, s.revoked_at IS NULL AND p.disabled_at IS NULL AS is_live, m.role,
    t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at
FROM sessions s JOIN people p ON p.id = s.person_id JOIN tenants t ON t.id = s.tenant_id
LEFT JOIN members m ON m.tenant_id = s.tenant_id AND m.person_id = s.person_id
WHERE s.id = $1;

-- touch_session(id)
-- Notes that a session was used; at most once a minute.
UPDATE sessions SET last_used_at = now()
WHERE id = $1 AND revoked_at IS NULL AND last_used_at < now() - interval '1 minute';
