-- Tenants, their API keys, and the audit trail of changes to them.

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    tier text NOT NULL CHECK (tier IN ('free', 'pro', 'enterprise', 'self_hosted')),
    is_demo boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('secret', 'publishable')),
    name text NOT NULL,
    scopes text[] NOT NULL,
    origins text[] NOT NULL DEFAULT '{}',
    is_unsigned boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
-- A key id is random and looked up before its tenant is known.
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (id);

-- One row a live secret; two during rotation. The bearer form is kept as a hash, the signing form sealed.
CREATE TABLE api_key_secrets (
    tenant_id uuid NOT NULL,
    key_id text NOT NULL,
    secret_hash bytea NOT NULL,
    sealed_secret bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, key_id, secret_hash),
    FOREIGN KEY (tenant_id, key_id) REFERENCES api_keys (tenant_id, id)
);
CREATE UNIQUE INDEX api_key_secrets_by_hash ON api_key_secrets (secret_hash);

CREATE TABLE audit_log (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL DEFAULT uuidv7(),
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    diff jsonb NOT NULL DEFAULT '{}',
    request_id text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);
