-- What of a tenant's month was handed out to web processes: spent by them, or still in their hands.

CREATE TABLE month_quota (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    month date NOT NULL,
    taken bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, month)
);
