-- Over how many sub-keys a tenant's enriched records are spread: 1 keeps all of them in one partition, in order.

ALTER TABLE tenants ADD COLUMN sub_keys smallint NOT NULL DEFAULT 1 CHECK (sub_keys BETWEEN 1 AND 256);
