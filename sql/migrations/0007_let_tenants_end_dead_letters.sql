-- A tenant's administrator lists dead letters newest first, and ends them (see policies/grants.sql).

CREATE INDEX dead_letters_newest ON dead_letters (tenant_id, created_at DESC);
