-- Keys of access tokens. In: a new key. Out: the one that signs, and all that verify.

-- find_signing_key()
-- The newest that may sign by now.
SELECT kid, sealed_private FROM signing_keys
WHERE signs_from <= now() AND (verifies_until IS NULL OR verifies_until > now())
ORDER BY signs_from DESC, kid LIMIT 1;

-- list_signing_keys()
-- All of them, newest first; no private part.
SELECT kid, public_jwk, created_at, signs_from, verifies_until FROM signing_keys ORDER BY signs_from DESC, kid;

-- insert_signing_key(kid, sealed_private, public_jwk, ahead_seconds)
-- A new key, which signs so many seconds from now.
INSERT INTO signing_keys (kid, sealed_private, public_jwk, signs_from)
VALUES ($1, $2, $3, now() + make_interval(secs => $4::integer));

-- retire_signing_keys(seconds)
-- The others verify for so long, unless they end before.
UPDATE signing_keys SET verifies_until = now() + make_interval(secs => $1::integer)
WHERE verifies_until IS NULL OR verifies_until > now() + make_interval(secs => $1::integer);

-- forget_signing_keys()
-- Those that have verified nothing for a month.
DELETE FROM signing_keys WHERE verifies_until < now() - interval '30 days';
