-- Tenants' identity providers, and sign-ins by them. In: a connection, who a provider says somebody is, what a browser
-- brought back. Out: connections, people.

-- list_connections(most, after_at, after_id)
-- The tenant's connections, oldest first, from a place on.
SELECT tenant_id, id, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled,
    created_at, updated_at
FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id LIMIT $1;

-- count_connections()
-- How many the tenant has.
SELECT count(*) AS count FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- find_connections(ids)
-- Some of the tenant's connections.
SELECT tenant_id, id, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled,
    created_at, updated_at
FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::uuid[]);

-- lock_connection(id)
-- One of the tenant's connections, locked until the transaction ends.
SELECT tenant_id, id, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled,
    created_at, updated_at
FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1 FOR UPDATE;

-- name_is_taken(name, id)
-- Whether another connection of the tenant has that name.
SELECT id FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND name = $1 AND id <> $2;

-- insert_connection(tenant_id, id, kind, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled)
-- One new connection.
INSERT INTO sign_in_connections (tenant_id, id, kind, preset, name, config, sealed_secret, allowed_domains,
    default_role, role_rules, is_enabled)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9, $10::text::jsonb, $11)
RETURNING tenant_id, id, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled,
    created_at, updated_at;

-- update_connection(tenant_id, id, kind, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled)
-- All of a connection that may change; kind and preset stay.
UPDATE sign_in_connections
SET name = $5, config = $6::text::jsonb, sealed_secret = $7, allowed_domains = $8, default_role = $9,
    role_rules = $10::text::jsonb, is_enabled = $11, updated_at = now()
WHERE tenant_id = $1 AND id = $2 AND kind = $3 AND preset = $4
RETURNING tenant_id, id, preset, name, config, sealed_secret, allowed_domains, default_role, role_rules, is_enabled,
    created_at, updated_at;

-- delete_connection(id)
-- The end of one, with its identities and what was under way.
DELETE FROM sign_in_connections
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1;

-- owners_of_connection(connection_id)
-- Owners who sign in by a connection.
SELECT m.person_id FROM members m
JOIN sign_in_identities i ON i.tenant_id = m.tenant_id AND i.person_id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.connection_id = $1 AND m.role = 'owner'
FOR UPDATE OF m;

-- end_sessions_of_connection(connection_id, reason)
-- Ends the sessions of all who sign in by a connection.
UPDATE sessions SET revoked_at = now(), revoked_reason = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND revoked_at IS NULL
    AND person_id IN (SELECT i.person_id FROM sign_in_identities i
        WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.connection_id = $1)
RETURNING id;

-- drop_attempts_of_connection(connection_id)
-- The end of sign-ins by a connection that are under way.
DELETE FROM sign_in_attempts
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND connection_id = $1;

-- end_invitations_of_connection(connection_id)
-- The end of open invitations that were made by those who came by a connection.
UPDATE invitations SET revoked_at = now()
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND revoked_at IS NULL AND accepted_at IS NULL
    AND invited_by IN (SELECT 'person:' || i.person_id FROM sign_in_identities i
        WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.connection_id = $1);

-- end_members_of_connection(connection_id)
-- Ends the membership of all who came by a connection.
DELETE FROM members m USING sign_in_identities i
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.tenant_id = m.tenant_id
    AND i.person_id = m.person_id AND i.connection_id = $1
RETURNING m.person_id;

-- whose_connection(id)
-- Which tenant's a connection is.
SELECT tenant_id FROM sign_in_connections WHERE id = $1;

-- tenant_to_show()
-- What people call the tenant, and the name that it shares with none.
SELECT name, slug FROM tenants WHERE id = (SELECT current_setting('app.current_tenant')::uuid);

-- offered_connections(slug)
-- What a tenant's sign-in page offers.
SELECT c.tenant_id, c.id, c.kind, c.name FROM sign_in_connections c JOIN tenants t ON t.id = c.tenant_id
WHERE t.slug = $1 AND c.is_enabled ORDER BY c.name;

-- find_identity(connection_id, issuer, subject)
-- Who this is, if it was here before, and what it is in the tenant now.
SELECT i.id, i.person_id, m.role FROM sign_in_identities i
LEFT JOIN members m ON m.tenant_id = i.tenant_id AND m.person_id = i.person_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND i.connection_id = $1 AND i.issuer = $2 AND i.subject = $3;

-- insert_home_person(id, name, email)
-- A person of the tenant alone.
INSERT INTO people (id, name, home_tenant_id, asserted_email)
VALUES ($1, $2, (SELECT current_setting('app.current_tenant')::uuid), $3);

-- insert_identity(id, connection_id, issuer, subject, person_id)
-- Who a provider says a person is.
INSERT INTO sign_in_identities (tenant_id, id, connection_id, issuer, subject, person_id)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3, $4, $5);

-- insert_home_member(person_id, role)
-- Makes a person of the tenant its member.
INSERT INTO members (tenant_id, person_id, role)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2);

-- note_sign_in(identity_id)
-- When an identity was last used.
UPDATE sign_in_identities SET last_sign_in_at = now()
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1;

-- note_person(person_id, name, email)
-- What a provider says of its person today.
UPDATE people SET name = $2, asserted_email = $3
WHERE id = $1 AND home_tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND (name, asserted_email) IS DISTINCT FROM ($2, $3);

-- note_role(person_id, role)
-- The role that a connection's rules give now; owners are made and unmade by owners.
UPDATE members SET role = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = $1 AND role <> 'owner'
    AND role <> $2
RETURNING role;

-- list_identities(connection_id, most, after_at, after_id)
-- Who came by a connection, oldest first, from a place on.
SELECT i.id, i.connection_id, i.issuer, i.subject, i.person_id, p.name, p.asserted_email AS email, i.created_at,
    i.last_sign_in_at
FROM sign_in_identities i LEFT JOIN people p ON p.id = i.person_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.connection_id = $1
    AND ($3::timestamptz IS NULL OR (i.created_at, i.id) > ($3, $4::uuid))
ORDER BY i.created_at, i.id LIMIT $2;

-- count_identities(connection_id)
-- How many came by a connection.
SELECT count(*) AS count FROM sign_in_identities
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND connection_id = $1;

-- lock_identity(id)
-- An identity, and what its person is in the tenant.
SELECT i.connection_id, i.issuer, i.subject, i.person_id, m.role FROM sign_in_identities i
LEFT JOIN members m ON m.tenant_id = i.tenant_id AND m.person_id = i.person_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.id = $1 FOR UPDATE OF i;

-- delete_identity(id)
-- Forgets who somebody is: the next sign-in is a first one.
DELETE FROM sign_in_identities
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1;

-- end_member(person_id)
-- Ends a membership.
DELETE FROM members WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = $1;

-- find_identities(ids)
-- Some of the tenant's identities.
SELECT i.id, i.connection_id, i.issuer, i.subject, i.person_id, p.name, p.asserted_email AS email, i.created_at,
    i.last_sign_in_at
FROM sign_in_identities i LEFT JOIN people p ON p.id = i.person_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.id = ANY($1::uuid[]);

-- insert_attempt(purpose, id, connection_id, browser, next, person_id, seconds)
-- What is awaited from a browser.
INSERT INTO sign_in_attempts (tenant_id, purpose, id, connection_id, browser, next, person_id, expires_at)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3, $4, $5, $6,
    now() + $7::double precision * interval '1 second');

-- find_attempt(purpose, id)
-- What is awaited, left where it is.
SELECT connection_id, browser, next, person_id, expires_at > now() AS is_live FROM sign_in_attempts
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND purpose = $1 AND id = $2;

-- take_attempt(purpose, id)
-- What was awaited, once.
DELETE FROM sign_in_attempts
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND purpose = $1 AND id = $2
RETURNING connection_id, browser, next, person_id, expires_at > now() AS is_live;

-- drop_old_attempts()
-- What did not come in time.
DELETE FROM sign_in_attempts
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND expires_at < now();

-- keep_assertion(connection_id, id, expires_at)
-- Notes that an assertion was taken; no row when it was taken before.
INSERT INTO saml_assertions (tenant_id, connection_id, id, expires_at)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3)
ON CONFLICT DO NOTHING RETURNING id;

-- drop_old_assertions()
-- Assertions that nobody could use any more.
DELETE FROM saml_assertions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND expires_at < now();
