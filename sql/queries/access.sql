-- Who a writer still is. In: a person or a key. Out: what it may now, held until the transaction ends.

-- hold_member(person_id, session_id)
-- A member's role, which nobody changes while it is held; nothing of a person who may sign in no more, or whose session
-- (null: it has none) has ended or is in another tenant by now.
SELECT m.role FROM members m JOIN people p ON p.id = m.person_id
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.person_id = $1 AND p.disabled_at IS NULL
    AND ($2::uuid IS NULL OR EXISTS (
        SELECT FROM sessions s WHERE s.id = $2 AND s.tenant_id = m.tenant_id AND s.person_id = $1
            AND s.revoked_at IS NULL))
FOR SHARE OF m;

-- hold_key(key_id)
-- A live key's scopes; nobody revokes it while they are held.
SELECT scopes FROM api_keys
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1 AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now()) FOR SHARE;

-- find_members(person_ids)
-- Which of these people are members.
SELECT person_id FROM members
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = ANY($1::uuid[]) FOR SHARE;
