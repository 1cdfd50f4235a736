-- People, who belong to no tenant, and their membership of tenants.

CREATE TABLE people (
    id uuid PRIMARY KEY,
    -- As people write it, in lower case: `check_email` in core/people.py.
    email text NOT NULL UNIQUE CHECK (email = lower(email)),
    name text NOT NULL,
    -- argon2id; null where a person signs in by a tenant's identity provider alone.
    password_hash text,
    password_changed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

CREATE TABLE members (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    person_id uuid NOT NULL REFERENCES people (id),
    role text NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, person_id)
);
-- A person's tenants, when it signs in.
CREATE INDEX members_by_person ON members (person_id);
