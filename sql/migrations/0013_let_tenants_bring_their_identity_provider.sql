-- A tenant's own identity providers, whom they say who is, and sign-ins that are under way.

-- A person who comes from a tenant's identity provider is that tenant's alone and has no e-mail to sign in with:
-- what the provider says of its e-mail is shown, and finds nobody.
ALTER TABLE people ADD COLUMN home_tenant_id uuid REFERENCES tenants (id),
    ADD COLUMN asserted_email text,
    ALTER COLUMN email DROP NOT NULL,
    ADD CONSTRAINT people_of_a_provider_have_no_email_of_their_own
        CHECK (CASE WHEN home_tenant_id IS NULL THEN email IS NOT NULL AND asserted_email IS NULL
               ELSE email IS NULL AND password_hash IS NULL END);
CREATE INDEX people_by_home ON people (home_tenant_id) WHERE home_tenant_id IS NOT NULL;

CREATE TABLE sign_in_connections (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('oidc', 'saml')),
    preset text NOT NULL,
    name text NOT NULL,
    -- OidcConfig or SamlConfig of core/sign_in_connections.py.
    config jsonb NOT NULL,
    -- The client secret of OAuth 2.0, sealed with the master key.
    sealed_secret bytea,
    allowed_domains text[] NOT NULL DEFAULT '{}',
    default_role text NOT NULL CHECK (default_role IN ('viewer', 'editor', 'admin')),
    role_rules jsonb NOT NULL DEFAULT '[]',
    is_enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);
-- A connection's id is random and looked up before its tenant is known.
CREATE UNIQUE INDEX sign_in_connections_by_id ON sign_in_connections (id);

-- Who a provider says somebody is: never by e-mail.
CREATE TABLE sign_in_identities (
    tenant_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    id uuid NOT NULL,
    person_id uuid NOT NULL REFERENCES people (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_sign_in_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, connection_id, issuer, subject),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES sign_in_connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX sign_in_identities_by_person ON sign_in_identities (tenant_id, person_id);

-- What is awaited from a browser: the return from an OpenID provider by its state, the answer to a SAML request by its
-- id, or the second step of a SAML sign-in by its ticket. Used once: by the DELETE that finds it.
CREATE TABLE sign_in_attempts (
    tenant_id uuid NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('oidc', 'saml', 'ticket')),
    -- SHA-256 of the state, the request id or the ticket.
    id bytea NOT NULL,
    connection_id uuid NOT NULL,
    -- SHA-256 of the cookie of the browser that began.
    browser bytea NOT NULL,
    next text NOT NULL,
    -- Whom the provider vouched for: of tickets alone.
    person_id uuid REFERENCES people (id),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, purpose, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES sign_in_connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX sign_in_attempts_by_end ON sign_in_attempts (tenant_id, expires_at);

-- Assertions that were taken, until they would be too old anyway.
CREATE TABLE saml_assertions (
    tenant_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    -- SHA-256 of the assertion's ID.
    id bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES sign_in_connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX saml_assertions_by_end ON saml_assertions (tenant_id, expires_at);
