-- The bytes of dead letters, as they came: the log drops what is consumed, and a dead letter must outlive it.

ALTER TABLE dead_letters ADD COLUMN value bytea NOT NULL DEFAULT '';
