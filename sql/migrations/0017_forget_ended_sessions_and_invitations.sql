-- Sessions and invitations that ended long ago are found by their age, and a person's live sessions without its others.

-- A session lasts 30 days from when it was made, an invitation until its end: neither column changes while it is in use.
CREATE INDEX sessions_by_age ON sessions (created_at);
CREATE INDEX sessions_live ON sessions (person_id, last_used_at) WHERE revoked_at IS NULL;
CREATE INDEX invitations_by_end ON invitations (expires_at);

-- What asks for a person's sessions by their use asks for the live ones; the end of a person asks for all.
DROP INDEX sessions_by_person;
CREATE INDEX sessions_by_person ON sessions (person_id);
