-- People and their memberships. In: an e-mail or an id. Out: one person; its tenants.

-- find_person_by_email(email)
-- Who signs in with an e-mail.
SELECT id, email, name, password_hash, created_at, disabled_at FROM people WHERE email = $1;

-- find_person(id)
-- One person.
SELECT id, email, name, password_hash, created_at, disabled_at FROM people WHERE id = $1;

-- list_memberships(person_id)
-- A person's tenants: where it was last, first; then by how long it is there.
SELECT t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, m.role, m.created_at AS since
FROM members m JOIN tenants t ON t.id = m.tenant_id
LEFT JOIN LATERAL (
    SELECT max(s.last_used_at) AS at FROM sessions s
    WHERE s.person_id = m.person_id AND s.tenant_id = m.tenant_id AND NOT s.is_locked
) used ON true
WHERE m.person_id = $1
ORDER BY used.at DESC NULLS LAST, m.created_at, t.slug;

-- insert_person(id, email, name, password_hash)
-- A new person; nothing when the e-mail is taken.
INSERT INTO people (id, email, name, password_hash, password_changed_at)
VALUES ($1, $2, $3, $4, CASE WHEN $4::text IS NULL THEN NULL ELSE now() END)
ON CONFLICT (email) DO NOTHING RETURNING id;

-- insert_member(tenant_id, person_id, role)
-- A new membership; nothing when there is one.
INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING person_id;

-- set_password(id, password_hash)
-- Another password.
UPDATE people SET password_hash = $2, password_changed_at = now() WHERE id = $1;

-- rename_person(id, name)
-- Another name.
UPDATE people SET name = $2 WHERE id = $1;
