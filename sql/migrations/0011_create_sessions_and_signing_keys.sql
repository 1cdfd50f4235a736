-- Sessions of people who have signed in, and the keys that sign their access tokens.

CREATE TABLE sessions (
    -- The key does not begin with the tenant: a session moves with its person from one tenant to another.
    id uuid PRIMARY KEY,
    -- Where its tokens are good now.
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    person_id uuid NOT NULL REFERENCES people (id),
    -- Bound to that tenant for ever: opened by the tenant's own identity provider.
    is_locked boolean NOT NULL DEFAULT false,
    method text NOT NULL,
    address text NOT NULL,
    agent text NOT NULL,
    -- SHA-256 of what all its refresh tokens begin with, of the current one, and of the one before it. Any other token
    -- of the family was used before.
    family_hash bytea NOT NULL UNIQUE,
    token_hash bytea NOT NULL,
    previous_hash bytea,
    -- The current token, sealed under the one before it: both uses of that within the grace get the same.
    sealed_token bytea,
    rotated_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_reason text
);
-- A person's sessions, the last used first.
CREATE INDEX sessions_by_person ON sessions (person_id, last_used_at);
CREATE INDEX sessions_by_tenant ON sessions (tenant_id, person_id);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    -- The private JWK, sealed with the master key; core/keys.py.
    sealed_private bytea NOT NULL,
    public_jwk text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Published before it signs, and still published after another has taken its place.
    signs_from timestamptz NOT NULL,
    verifies_until timestamptz
);
