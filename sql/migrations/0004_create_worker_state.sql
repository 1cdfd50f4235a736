-- What workers remember. An offset is stored with the results it stands for, in one transaction; the update that
-- was made of them rides along, so that a worker killed before it could publish it publishes it when it is back.

CREATE TABLE log_offsets (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset text NOT NULL,
    last_update bytea,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition)
);

-- The index of dead letters; their bytes are in the topic events.dead. An unreadable tenant is the nil UUID.
CREATE TABLE dead_letters (
    tenant_id uuid NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" text NOT NULL,
    worker text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, topic, partition, "offset", worker)
);
