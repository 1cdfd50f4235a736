-- People and their memberships. In: an e-mail or an id. Out: one person; its tenants.

-- find_person_by_email(email)
-- Who signs in with an e-mail.
SELECT id, email, name, password_hash, password_changed_at, created_at, disabled_at FROM people WHERE email = $1;

-- find_person(id)
-- One person. Whoever comes from a tenant's identity provider has no e-mail of its own: what is asserted proves nothing.
SELECT id, coalesce(email, '') AS email, name, password_hash, password_changed_at, created_at, disabled_at FROM people WHERE id = $1;

-- list_memberships(person_id)
-- A person's tenants: where it was last, first; then by how long it is there.
SELECT t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at, m.role, m.created_at AS since
FROM members m JOIN tenants t ON t.id = m.tenant_id
LEFT JOIN LATERAL (
    SELECT max(s.last_used_at) AS at FROM sessions s
    WHERE s.person_id = m.person_id AND s.tenant_id = m.tenant_id AND NOT s.is_locked
) used ON true
WHERE m.person_id = $1
ORDER BY used.at DESC NULLS LAST, m.created_at, t.slug;

-- list_memberships_by_slug(person_id, most, after, only)
-- A page of them by slug, or (not null) the one.
SELECT t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at, m.role, m.created_at AS since
FROM members m JOIN tenants t ON t.id = m.tenant_id
WHERE m.person_id = $1 AND ($3::text IS NULL OR t.slug > $3) AND ($4::uuid IS NULL OR t.id = $4)
ORDER BY t.slug LIMIT $2;

-- count_memberships(person_id, only)
-- How many there are.
SELECT count(*) FROM members WHERE person_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2);

-- insert_person(id, email, name, password_hash)
-- A new person; nothing when the e-mail is taken.
INSERT INTO people (id, email, name, password_hash, password_changed_at)
VALUES ($1, $2, $3, $4, CASE WHEN $4::text IS NULL THEN NULL ELSE now() END)
ON CONFLICT (email) DO NOTHING RETURNING id;

-- insert_member(tenant_id, person_id, role)
-- A new membership; nothing when there is one.
INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING person_id;

-- put_member(tenant_id, person_id, role)
-- A membership, or another role in it.
INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, person_id) DO UPDATE SET role = excluded.role;

-- set_password(id, password_hash)
-- Another password.
UPDATE people SET password_hash = $2, password_changed_at = now() WHERE id = $1;

-- rename_person(id, name)
-- Another name; which it was before.
UPDATE people SET name = $2 WHERE id = $1
RETURNING old.name AS name_before, id, email, name, password_hash, password_changed_at, created_at, disabled_at;

-- change_password(id, password_changed_at, password_hash)
-- Another password in the place of the one that was verified; nothing when that has changed meanwhile.
UPDATE people SET password_hash = $3, password_changed_at = now()
WHERE id = $1 AND password_changed_at = $2 AND disabled_at IS NULL RETURNING id;

-- find_account(email)
-- Who signs in with an e-mail, and from where that person has lately.
SELECT p.id, p.email, p.name, p.password_hash, p.password_changed_at, p.created_at, p.disabled_at, ARRAY(
    SELECT DISTINCT s.address FROM sessions s WHERE s.person_id = p.id LIMIT 100
) AS addresses
FROM people p WHERE p.email = $1;

-- hold_password(id, password_changed_at)
-- That a person may sign in and has the same password still; holds it until the end of the transaction.
SELECT id FROM people WHERE id = $1 AND password_changed_at = $2 AND disabled_at IS NULL FOR SHARE;

-- keep_better_hash(id, password_hash, better_hash)
-- The same password, hashed at a higher cost.
UPDATE people SET password_hash = $3 WHERE id = $1 AND password_hash = $2;
