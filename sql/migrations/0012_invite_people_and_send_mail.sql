-- Invitations to tenants, resets of passwords, and the mail that tells of them.

-- A message is put here in the transaction of what it tells; a worker sends it.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    -- Null where it is a person's affair and no tenant's, such as a reset of its password.
    tenant_id uuid REFERENCES tenants (id),
    kind text NOT NULL,
    recipient text NOT NULL,
    -- Subject and text under the master key, since a link in it is as good as a password; null once it was sent.
    sealed bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- While a worker sends it this lies ahead: its lease.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    give_up_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    sent_at timestamptz,
    given_up_at timestamptz,
    last_error text NOT NULL DEFAULT ''
);
CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX outbox_by_tenant ON outbox (tenant_id, id);

CREATE TABLE invitations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    email text NOT NULL CHECK (email = lower(email)),
    role text NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    token_hash bytea NOT NULL,
    -- An actor as the audit trail names it.
    invited_by text NOT NULL,
    message_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    accepted_at timestamptz,
    accepted_by uuid REFERENCES people (id),
    PRIMARY KEY (tenant_id, id)
);
-- A token is random and looked up before its tenant is known.
CREATE UNIQUE INDEX invitations_by_token ON invitations (token_hash);
-- One address has one open invitation to a tenant.
CREATE UNIQUE INDEX invitations_open ON invitations (tenant_id, email)
    WHERE revoked_at IS NULL AND accepted_at IS NULL;

CREATE TABLE password_resets (
    id uuid PRIMARY KEY,
    -- Null where nobody has the address that was asked for: both leave the same rows, so that neither is told.
    person_id uuid REFERENCES people (id),
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX password_resets_by_person ON password_resets (person_id, created_at);
CREATE INDEX password_resets_by_end ON password_resets (expires_at);
