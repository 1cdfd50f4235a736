-- A person of no tenant any more may go, though another tenant knew it once: that tenant keeps the invitation without
-- who accepted it, and what is left of the person's sessions there goes with the person. Of a member neither happens:
-- its membership holds it.

ALTER TABLE invitations DROP CONSTRAINT invitations_accepted_by_fkey,
    ADD CONSTRAINT invitations_accepted_by_fkey FOREIGN KEY (accepted_by) REFERENCES people (id) ON DELETE SET NULL;
CREATE INDEX invitations_by_person ON invitations (accepted_by) WHERE accepted_by IS NOT NULL;
ALTER TABLE sessions DROP CONSTRAINT sessions_person_id_fkey,
    ADD CONSTRAINT sessions_person_id_fkey FOREIGN KEY (person_id) REFERENCES people (id) ON DELETE CASCADE;
