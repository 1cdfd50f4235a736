-- Saved questions, the first objects with an access list, and share links to such objects.

-- An object with an access list has these four columns of grantees: `owner` and three lists, each of 'everyone',
-- 'role:<role>', 'person:<uuid>' or a key's id (core/access.py). They stand in the row itself, so that one lock holds
-- the object and who may change it, and row-level security needs no other table.
CREATE TABLE questions (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    query jsonb NOT NULL,
    tags text[] NOT NULL,
    owner text NOT NULL,
    viewers text[] NOT NULL,
    editors text[] NOT NULL,
    managers text[] NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    access_revision integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX questions_newest ON questions (tenant_id, created_at DESC, id DESC);
CREATE INDEX questions_deleted ON questions (deleted_at) WHERE deleted_at IS NOT NULL;

-- A link to one object of any kind; its token is kept as a hash.
CREATE TABLE share_links (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    object_kind text NOT NULL CHECK (object_kind IN ('question')),
    object_id uuid NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    -- What its bearer may see of the object: conditions that always hold, ranges beside the object's own, dimensions
    -- by which it may be narrowed further (null: those it is grouped by).
    locked_filters jsonb NOT NULL,
    ranges text[] NOT NULL,
    filter_dimensions text[],
    cost_per_minute integer NOT NULL CHECK (cost_per_minute > 0),
    rows_per_hour integer NOT NULL CHECK (rows_per_hour > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    uses bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
);
-- A token is random and looked up before its tenant is known.
CREATE UNIQUE INDEX share_links_by_token ON share_links (token_hash);
CREATE INDEX share_links_of_object ON share_links (tenant_id, object_kind, object_id, created_at DESC);
