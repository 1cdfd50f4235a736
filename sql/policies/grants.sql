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
GRANT SELECT ON audit_heads TO cm_app;
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

-- Jobs are asked for and looked at by the application, and run by a worker; the proofs of deletions are the operator's.
GRANT SELECT, INSERT, UPDATE ON jobs TO cm_app;
GRANT SELECT, UPDATE, DELETE ON jobs TO cm_writer;
GRANT SELECT, UPDATE (others) ON tenant_erasures TO cm_writer;
GRANT SELECT ON tenant_erasures TO cm_doorkeeper;
GRANT EXECUTE ON FUNCTION maintenance.tables_of_tenants(), maintenance.begin_erasure(uuid, text, timestamptz),
    maintenance.erase_rows(uuid, text, integer), maintenance.finish_erasure(uuid), maintenance.sweep_erased(uuid),
    maintenance.erase_people(uuid) TO cm_writer;
