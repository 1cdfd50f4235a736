-- Rollups of 1 minute, 5 minutes and 1 hour. One row sums up the events of one type that share one value of one
-- dimension ('' = all of the type) within one bucket, as one writer (shard) counted them: absolute, never added to
-- by another. Sketches (visitors, sessions: HLL; durations: KLL) merge, so a coarser bucket never counts anew.

CREATE TABLE rollup_1m (
    tenant_id uuid NOT NULL,
    dimension text NOT NULL,
    bucket timestamptz NOT NULL,
    type text NOT NULL,
    value text NOT NULL,
    is_bot boolean NOT NULL,
    shard integer NOT NULL,
    count bigint NOT NULL,
    errors bigint NOT NULL,
    bytes bigint NOT NULL,
    duration_count bigint NOT NULL,
    duration_sum double precision NOT NULL,
    duration_min double precision,
    duration_max double precision,
    visitors bytea NOT NULL,
    sessions bytea NOT NULL,
    durations bytea NOT NULL,
    PRIMARY KEY (tenant_id, dimension, bucket, type, value, is_bot, shard)
);

CREATE TABLE rollup_5m (
    tenant_id uuid NOT NULL,
    dimension text NOT NULL,
    bucket timestamptz NOT NULL,
    type text NOT NULL,
    value text NOT NULL,
    is_bot boolean NOT NULL,
    shard integer NOT NULL,
    count bigint NOT NULL,
    errors bigint NOT NULL,
    bytes bigint NOT NULL,
    duration_count bigint NOT NULL,
    duration_sum double precision NOT NULL,
    duration_min double precision,
    duration_max double precision,
    visitors bytea NOT NULL,
    sessions bytea NOT NULL,
    durations bytea NOT NULL,
    PRIMARY KEY (tenant_id, dimension, bucket, type, value, is_bot, shard)
);

CREATE TABLE rollup_1h (
    tenant_id uuid NOT NULL,
    dimension text NOT NULL,
    bucket timestamptz NOT NULL,
    type text NOT NULL,
    value text NOT NULL,
    is_bot boolean NOT NULL,
    shard integer NOT NULL,
    count bigint NOT NULL,
    errors bigint NOT NULL,
    bytes bigint NOT NULL,
    duration_count bigint NOT NULL,
    duration_sum double precision NOT NULL,
    duration_min double precision,
    duration_max double precision,
    visitors bytea NOT NULL,
    sessions bytea NOT NULL,
    durations bytea NOT NULL,
    PRIMARY KEY (tenant_id, dimension, bucket, type, value, is_bot, shard)
);

CREATE TABLE daily_usage (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    key_id text NOT NULL,
    accepted bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day, key_id)
);
