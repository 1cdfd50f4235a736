-- Invitations. In: an address, an id, a token's hash, or a page's place. Out: invitations of one tenant.

-- find_invitee(email)
-- Whether an address is a member's of the transaction's tenant, and its open invitation there.
SELECT
    EXISTS (
        SELECT FROM members m JOIN people p ON p.id = m.person_id
        WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND p.email = $1
    ) AS is_member,
    i.id AS open_id, i.expires_at <= now() AS is_expired
FROM (SELECT 1) AS one LEFT JOIN invitations i
    ON i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.email = $1
    AND i.revoked_at IS NULL AND i.accepted_at IS NULL;

-- count_seats()
-- Members, invitations that may still become some, and messages sent within a day.
SELECT
    (SELECT count(*) FROM members WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)) AS members,
    count(*) FILTER (WHERE revoked_at IS NULL AND accepted_at IS NULL AND expires_at > now()) AS open,
    count(*) FILTER (WHERE sent_at > now() - interval '1 day') AS sent_today
FROM invitations WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- insert_invitation(id, email, role, token_hash, invited_by, message_id, life)
-- A new invitation.
INSERT INTO invitations (tenant_id, id, email, role, token_hash, invited_by, message_id, expires_at)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3, $4, $5, $6, now() + $7::interval);

-- renew_invitation(id, token_hash, message_id, life)
-- Another token in the place of the one before, and a new end.
UPDATE invitations SET token_hash = $2, message_id = $3, sent_at = now(), expires_at = now() + $4::interval
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1;

-- revoke_invitation(id)
-- The end of an open one.
UPDATE invitations SET revoked_at = now()
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
    AND revoked_at IS NULL AND accepted_at IS NULL;

-- end_invitations_by(actor)
-- The end of those that somebody made who may invite no more, and of their messages.
WITH ended AS (
    UPDATE invitations SET revoked_at = now()
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND invited_by = $1
        AND revoked_at IS NULL AND accepted_at IS NULL
    RETURNING tenant_id, message_id
)
UPDATE outbox o SET given_up_at = now(), last_error = 'the invitation was revoked'
FROM ended WHERE o.tenant_id = ended.tenant_id AND o.id = ended.message_id
    AND o.sent_at IS NULL AND o.given_up_at IS NULL;

-- lock_invitation(id)
-- One invitation, for this transaction alone.
SELECT i.id, i.email, i.role, i.invited_by, i.created_at, i.sent_at, i.expires_at, i.revoked_at, i.accepted_at,
    i.message_id, 'waiting' AS mail
FROM invitations i
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.id = $1 FOR UPDATE;

-- load_invitations(ids)
-- Some invitations, and what became of their messages.
SELECT i.id, i.email, i.role, i.invited_by, i.created_at, i.sent_at, i.expires_at, i.revoked_at, i.accepted_at,
    {mail} AS mail
FROM invitations i LEFT JOIN outbox o ON o.tenant_id = i.tenant_id AND o.id = i.message_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND i.id = ANY($1::uuid[]);

-- list_invitations(most, has_all, before_at, before_id)
-- A page of them, newest first: those that wait for an answer, or all.
SELECT i.id, i.email, i.role, i.invited_by, i.created_at, i.sent_at, i.expires_at, i.revoked_at, i.accepted_at,
    {mail} AS mail
FROM invitations i LEFT JOIN outbox o ON o.tenant_id = i.tenant_id AND o.id = i.message_id
WHERE i.tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::boolean OR (i.revoked_at IS NULL AND i.accepted_at IS NULL))
    AND ($3::timestamptz IS NULL OR (i.created_at, i.id) < ($3, $4::uuid))
ORDER BY i.created_at DESC, i.id DESC LIMIT $1;

-- mail_state(...)
-- What became of a message; one that is gone was sent or given up long ago.
CASE WHEN o.given_up_at IS NOT NULL THEN 'given_up' WHEN o.id IS NULL OR o.sent_at IS NOT NULL THEN 'sent' ELSE 'waiting' END

-- count_invitations(has_all)
-- How many those are.
SELECT count(*) FROM invitations
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($1::boolean OR (revoked_at IS NULL AND accepted_at IS NULL));

-- find_invitation_by_token(token_hash)
-- The open invitation of a link, its tenant, and whether its address is somebody's; before a tenant is known.
SELECT i.id, i.email, i.role, p.id AS person_id, p.password_hash, p.disabled_at,
    t.id AS tenant_id, t.slug, t.name, t.tier, t.created_at, t.is_demo, t.ends_at
FROM invitations i JOIN tenants t ON t.id = i.tenant_id LEFT JOIN people p ON p.email = i.email
WHERE i.token_hash = $1 AND i.revoked_at IS NULL AND i.accepted_at IS NULL AND i.expires_at > now()
    AND t.ends_at IS NULL;

-- lock_open_invitation(token_hash)
-- The same within its tenant, for this transaction alone; by the clock, as it may have waited.
SELECT id, email, role, message_id FROM invitations
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND token_hash = $1
    AND revoked_at IS NULL AND accepted_at IS NULL AND expires_at > clock_timestamp()
FOR UPDATE;

-- accept_invitation(id, person_id)
-- It has its answer.
UPDATE invitations SET accepted_at = now(), accepted_by = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1;

-- insert_invited_person(id, email, name, password_hash)
-- A person who was invited, by the application: its policy wants the open invitation.
INSERT INTO people (id, email, name, password_hash, password_changed_at) VALUES ($1, $2, $3, $4, now());

-- forget_invitations(before, most)
-- The end of those that could be accepted until a moment.
DELETE FROM invitations WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM invitations WHERE expires_at < $1 LIMIT $2
);
