-- Who a writer still is. In: a person or a key. Out: what it may now, held until the transaction ends.

-- hold_member(person_id)
-- A member's role; nobody changes it while it is held.
SELECT role FROM members
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = $1 FOR SHARE;

-- hold_key(key_id)
-- A live key's scopes; nobody revokes it while they are held.
SELECT scopes FROM api_keys
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1 AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now()) FOR SHARE;

-- find_members(person_ids)
-- Which of these people are members.
SELECT person_id FROM members
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND person_id = ANY($1::uuid[]) FOR SHARE;
