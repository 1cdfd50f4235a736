-- Resets of passwords. In: an address, or a token's hash. Out: whose password may be set.

-- wait_turn(email)
-- Whoever asks for the same address at once goes one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('password_resets:' || $1::text, 0));

-- forget_resets()
-- Those that ended a day ago.
DELETE FROM password_resets WHERE expires_at < now() - interval '1 day';

-- find_asker(email, pause)
-- Who has an address, and how often a reset was asked for lately; nulls where nobody has it.
SELECT p.id, p.password_hash IS NOT NULL AS has_password, p.disabled_at IS NOT NULL AS is_disabled,
    coalesce(max(r.created_at) > now() - $2::interval, false) AS is_recent, count(r.id) AS today
FROM (SELECT 1) AS one LEFT JOIN people p ON p.email = $1
LEFT JOIN password_resets r ON r.person_id = p.id AND r.created_at > now() - interval '1 day'
GROUP BY p.id;

-- insert_reset(id, person_id, token_hash, life)
-- A new one; nobody's where the address is nobody's.
INSERT INTO password_resets (id, person_id, token_hash, expires_at) VALUES ($1, $2, $3, now() + $4::interval);

-- find_reset(token_hash)
-- Whose password a link may set.
SELECT p.id, p.email, p.name FROM password_resets r JOIN people p ON p.id = r.person_id
WHERE r.token_hash = $1 AND r.used_at IS NULL AND r.expires_at > now() AND p.disabled_at IS NULL;

-- use_reset(token_hash)
-- Takes the one use of a link; no row for whoever comes second.
UPDATE password_resets SET used_at = now()
WHERE token_hash = $1 AND used_at IS NULL AND expires_at > clock_timestamp() AND person_id IS NOT NULL
RETURNING person_id;

-- end_resets(person_id)
-- No other link of the person's is good any more.
UPDATE password_resets SET used_at = now() WHERE person_id = $1 AND used_at IS NULL;

-- list_tenants_of(person_id)
-- The tenants of a person.
SELECT tenant_id FROM members WHERE person_id = $1;
