-- From where a reset of a password was asked for, so that strangers do not use up what its person may ask for.
ALTER TABLE password_resets ADD COLUMN network text NOT NULL DEFAULT '';
