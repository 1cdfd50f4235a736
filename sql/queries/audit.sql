-- The audit trail. In: an entry, within the transaction of what it tells. Out: entries of one tenant.

-- write_audit(tenant_id, actor, action, subject, diff, request_id)
-- Who changed what, in the transaction of the change.
INSERT INTO audit_log (tenant_id, actor, action, subject, diff, request_id) VALUES ($1, $2, $3, $4, $5::jsonb, $6);
