-- What each role may do, re-applied at every migration. Partitions are granted to nobody: they are reached
-- through their parent, whose policies hold.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM cm_app, cm_writer, cm_doorkeeper;
GRANT USAGE ON SCHEMA public TO cm_app, cm_writer, cm_doorkeeper;
GRANT USAGE ON SCHEMA maintenance TO cm_writer;
GRANT EXECUTE ON FUNCTION maintenance.ensure_event_partition(text, date),
    maintenance.drop_event_partitions(text, timestamptz) TO cm_writer;

GRANT SELECT, INSERT, UPDATE ON tenants, api_keys, api_key_secrets TO cm_app;
GRANT DELETE ON api_key_secrets TO cm_app;
GRANT SELECT, INSERT, UPDATE ON month_quota TO cm_app;
GRANT SELECT, INSERT ON audit_log TO cm_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON members TO cm_app;
-- Whether a person has a password, and which, is for the doorkeeper alone.
GRANT SELECT (id, email, name, created_at, disabled_at) ON people TO cm_app;
GRANT SELECT ON events, event_ids, rollup_1m, rollup_5m, rollup_1h, daily_usage, dead_letters TO cm_app;

GRANT DELETE ON dead_letters TO cm_app;

GRANT SELECT ON tenants TO cm_writer;
GRANT SELECT, INSERT ON events TO cm_writer;
GRANT SELECT, INSERT, DELETE ON event_ids TO cm_writer;
GRANT SELECT, INSERT, UPDATE ON rollup_1m, rollup_5m, rollup_1h, daily_usage, log_offsets TO cm_writer;
GRANT DELETE ON rollup_1m, rollup_5m, rollup_1h TO cm_writer;
GRANT SELECT, INSERT, DELETE ON dead_letters TO cm_writer;

GRANT SELECT ON tenants, api_keys, api_key_secrets, daily_usage TO cm_doorkeeper;
GRANT UPDATE (last_used_at) ON api_keys TO cm_doorkeeper;
GRANT SELECT ON members TO cm_doorkeeper;
GRANT SELECT, INSERT, UPDATE ON people TO cm_doorkeeper;
-- Signing in and out, with its entry in the trail, which the doorkeeper adds to and never reads.
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, signing_keys TO cm_doorkeeper;
GRANT INSERT ON audit_log TO cm_doorkeeper;
-- A member that is removed loses its sessions in the same transaction; no hash of a token is seen.
GRANT SELECT (id, tenant_id, person_id, method, created_at, last_used_at, expires_at, revoked_at) ON sessions TO cm_app;
GRANT UPDATE (revoked_at, revoked_reason) ON sessions TO cm_app;
