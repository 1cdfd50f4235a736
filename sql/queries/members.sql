-- Members of the transaction's tenant. In: a person, or a page's place. Out: members, or what their tenant may.

-- lock_members()
-- The tenant, kept from every other change of its members; rows that only refer to it are not held up.
SELECT id, slug, name, tier, ends_at FROM tenants WHERE id = (SELECT current_setting('app.current_tenant')::uuid)
FOR NO KEY UPDATE;

-- standing_of(person_id)
-- What a person is in the tenant at this moment.
SELECT m.role, p.name FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.person_id = $1 AND p.disabled_at IS NULL;

-- find_member(person_id)
-- One member.
SELECT m.person_id, p.name, coalesce(p.email, p.asserted_email, '') AS email, m.role, m.created_at AS since, {last_seen} AS last_seen_at
FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.person_id = $1;

-- find_members_by_name(name)
-- Members as the operator names them: by e-mail, by what a provider asserts as one, or by the person's id.
SELECT m.person_id, p.name, coalesce(p.email, p.asserted_email, '') AS email, m.role, m.created_at AS since,
    {last_seen} AS last_seen_at
FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND $1 IN (p.email, p.asserted_email, m.person_id::text);

-- load_members(person_ids)
-- Some members.
SELECT m.person_id, p.name, coalesce(p.email, p.asserted_email, '') AS email, m.role, m.created_at AS since, {last_seen} AS last_seen_at
FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.person_id = ANY($1::uuid[]);

-- list_members(most, search, after_at, after_id)
-- A page of members, who is there longest first; by a part of the name.
SELECT m.person_id, p.name, coalesce(p.email, p.asserted_email, '') AS email, m.role, m.created_at AS since, {last_seen} AS last_seen_at
FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::text = '' OR strpos(lower(p.name), lower($2)) > 0)
    AND ($3::timestamptz IS NULL OR (m.created_at, m.person_id) > ($3, $4::uuid))
ORDER BY m.created_at, m.person_id LIMIT $1;

-- last_seen(...)
-- When a session of a member was last used in the tenant.
(SELECT max(s.last_used_at) FROM sessions s WHERE s.tenant_id = m.tenant_id AND s.person_id = m.person_id)

-- count_members(search)
-- How many there are, by a part of the name.
SELECT count(*) FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($1::text = '' OR strpos(lower(p.name), lower($1)) > 0);

-- count_other_owners(person_id)
-- How many owners the tenant has beside one, who can sign in.
SELECT count(*) FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.role = 'owner' AND m.person_id <> $1
    AND p.disabled_at IS NULL;

-- set_role(person_id, role)
-- Another role.
UPDATE members SET role = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = $1;

-- remove_member(person_id)
-- The end of a membership.
DELETE FROM members WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = $1;
