-- What each role may do, re-applied at every migration. Partitions are granted to nobody: they are reached
-- through their parent, whose policies hold.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM cm_app, cm_writer, cm_doorkeeper;
GRANT USAGE ON SCHEMA public TO cm_app, cm_writer, cm_doorkeeper;
GRANT USAGE ON SCHEMA maintenance TO cm_writer;
GRANT EXECUTE ON FUNCTION maintenance.ensure_event_partition(text, date),
    maintenance.drop_event_partitions(text, timestamptz), maintenance.hold_tiers(uuid[]) TO cm_writer;

GRANT SELECT, INSERT, UPDATE ON tenants, api_keys, api_key_secrets TO cm_app;
GRANT DELETE ON api_key_secrets TO cm_app;
GRANT SELECT, INSERT, UPDATE ON month_quota TO cm_app;
GRANT SELECT, INSERT ON audit_log TO cm_app;
GRANT SELECT ON audit_heads TO cm_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON members TO cm_app;
-- Whether a person has a password, and which, is for the doorkeeper alone.
GRANT SELECT (id, email, name, created_at, disabled_at) ON people TO cm_app;
-- Makes those who accept an invitation; the policy `invited` holds it to them.
GRANT INSERT (id, email, name, password_hash, password_changed_at) ON people TO cm_app;
GRANT SELECT, INSERT, UPDATE ON invitations TO cm_app;
-- Puts messages in and sees what became of them; their text it never reads.
GRANT INSERT ON outbox TO cm_app;
GRANT SELECT (tenant_id, id, sent_at, given_up_at), UPDATE (given_up_at, last_error) ON outbox TO cm_app;
GRANT SELECT ON events, event_ids, rollup_1m, rollup_5m, rollup_1h, daily_usage, dead_letters TO cm_app;

GRANT DELETE ON dead_letters TO cm_app;

-- Whose an object is never changes; what is deleted is purged by a worker.
GRANT SELECT, INSERT ON questions, share_links TO cm_app;
GRANT UPDATE (name, description, query, tags, viewers, editors, managers, revision, access_revision, updated_at,
    updated_by, deleted_at) ON questions TO cm_app;
GRANT UPDATE (revoked_at, revoked_by) ON share_links TO cm_app;
GRANT SELECT (tenant_id, id, deleted_at), DELETE ON questions TO cm_writer;
GRANT SELECT (tenant_id, id, object_kind, object_id, expires_at, revoked_at), DELETE ON share_links TO cm_writer;
-- A link is worth no more than its maker: the door looks at whether that one still manages the object.
GRANT SELECT (tenant_id, id, owner, viewers, editors, managers, deleted_at) ON questions TO cm_doorkeeper;
GRANT SELECT, UPDATE (last_used_at, uses) ON share_links TO cm_doorkeeper;

GRANT SELECT ON tenants TO cm_writer;
GRANT SELECT, INSERT ON events TO cm_writer;
-- It ends what ended long ago, by its age alone.
GRANT SELECT (id, created_at), DELETE ON sessions TO cm_writer;
GRANT SELECT (tenant_id, id, expires_at), DELETE ON invitations TO cm_writer;
GRANT SELECT, INSERT, DELETE ON event_ids TO cm_writer;
GRANT SELECT, INSERT, UPDATE ON rollup_1m, rollup_5m, rollup_1h, daily_usage, log_offsets TO cm_writer;
GRANT DELETE ON rollup_1m, rollup_5m, rollup_1h TO cm_writer;
GRANT SELECT, INSERT, DELETE ON dead_letters TO cm_writer;
GRANT SELECT, UPDATE, DELETE ON outbox TO cm_writer;

GRANT SELECT ON tenants, api_keys, api_key_secrets, daily_usage TO cm_doorkeeper;
GRANT UPDATE (last_used_at) ON api_keys TO cm_doorkeeper;
GRANT SELECT ON members TO cm_doorkeeper;
GRANT SELECT, INSERT, UPDATE ON people TO cm_doorkeeper;
GRANT SELECT ON invitations TO cm_doorkeeper;
GRANT INSERT ON outbox TO cm_doorkeeper;
GRANT SELECT, INSERT, UPDATE, DELETE ON password_resets TO cm_doorkeeper;
-- Signing in and out, with its entry in the trail, which the doorkeeper adds to and never reads.
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, signing_keys TO cm_doorkeeper;
GRANT INSERT ON audit_log TO cm_doorkeeper;
-- A member that is removed loses its sessions in the same transaction; no hash of a token is seen.
GRANT SELECT (id, tenant_id, person_id, method, created_at, last_used_at, expires_at, revoked_at) ON sessions TO cm_app;
GRANT UPDATE (revoked_at, revoked_reason) ON sessions TO cm_app;

-- Counts of what became of events: workers and doors add, the application reads.
GRANT SELECT ON ingest_1m, ingest_1h TO cm_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ingest_1m, ingest_1h TO cm_writer;
GRANT SELECT, INSERT, UPDATE ON ingest_1m, ingest_1h TO cm_doorkeeper;
-- A tenant's events follow it to another tier's storage class.
GRANT DELETE ON events TO cm_writer;
GRANT UPDATE (moving_since) ON tenants TO cm_writer;

-- Jobs are asked for and looked at by the application, and run by a worker; the proofs of deletions are the operator's.
GRANT SELECT, INSERT, UPDATE ON jobs TO cm_app;
GRANT SELECT, UPDATE, DELETE ON jobs TO cm_writer;
GRANT SELECT, UPDATE (others) ON tenant_erasures TO cm_writer;
GRANT SELECT ON tenant_erasures TO cm_doorkeeper;
GRANT EXECUTE ON FUNCTION maintenance.tables_of_tenants(), maintenance.begin_erasure(uuid, text, timestamptz),
    maintenance.erase_rows(uuid, text, integer), maintenance.finish_erasure(uuid), maintenance.sweep_erased(uuid),
    maintenance.erase_people(uuid) TO cm_writer;
-- A tenant's own identity providers. Their people are the tenant's: policies on `people` hold that.
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_connections, sign_in_identities, sign_in_attempts, saml_assertions
    TO cm_app;
GRANT SELECT (home_tenant_id, asserted_email) ON people TO cm_app;
GRANT INSERT (id, name, home_tenant_id, asserted_email) ON people TO cm_app;
GRANT UPDATE (name, asserted_email) ON people TO cm_app;
-- Which tenant a sign-in is of, before it is known.
GRANT SELECT (tenant_id, id, kind, name, is_enabled) ON sign_in_connections TO cm_doorkeeper;

-- Metrics are defined by the application, counted and backfilled by workers.
GRANT SELECT, INSERT ON metrics, metric_versions TO cm_app;
GRANT UPDATE (unit, description, owner, kind, version, revision, updated_at, updated_by, archived_at) ON metrics TO cm_app;
GRANT UPDATE (counts_until) ON metric_versions TO cm_app;
GRANT SELECT ON metric_1m, metric_5m, metric_1h TO cm_app;
GRANT SELECT ON metrics, metric_versions TO cm_writer;
GRANT UPDATE (ready_at, backfilled) ON metric_versions TO cm_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON metric_1m, metric_5m, metric_1h TO cm_writer;
GRANT UPDATE (backfilled, backfill_from, backfill_until, backfill_ts, backfill_id) ON metric_versions TO cm_writer;
GRANT INSERT (tenant_id, kind, arguments, asked_by) ON jobs TO cm_writer;
