-- Saved questions. In: what a tenant's caller asks. Out: what its access lists let it see; row-level security holds them.

-- list_questions(first, before_at, before_id, search, tag, is_deleted)
-- A page, newest first, from a place on; `search` stands in the name or description, in lower case.
SELECT {columns} FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND (deleted_at IS NOT NULL) = $6::boolean
    AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
    AND ($4::text IS NULL OR strpos(lower(name), $4) > 0 OR strpos(lower(description), $4) > 0)
    AND ($5::text IS NULL OR $5 = ANY(tags))
ORDER BY created_at DESC, id DESC LIMIT $1;

-- count_questions(search, tag, is_deleted)
-- How many that list has in all.
SELECT count(*) AS count FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND (deleted_at IS NOT NULL) = $3::boolean
    AND ($1::text IS NULL OR strpos(lower(name), $1) > 0 OR strpos(lower(description), $1) > 0)
    AND ($2::text IS NULL OR $2 = ANY(tags));

-- find_questions(ids)
-- Some by their ids, none that is deleted.
SELECT {columns} FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- find_question(id, is_deleted)
-- One, deleted or not.
SELECT {columns} FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
    AND (deleted_at IS NOT NULL) = $2::boolean;

-- lock_question(id, is_deleted)
-- The same, held until the transaction ends; only of those that the caller may edit.
SELECT {columns} FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
    AND (deleted_at IS NOT NULL) = $2::boolean
FOR UPDATE;

-- columns(...)
-- What makes up a question.
id, name, description, query::text AS query, tags, owner, viewers, editors, managers, revision, access_revision,
created_at, created_by, updated_at, updated_by, deleted_at;

-- count_of_owner(owner)
-- How many one owner has, deleted ones too.
SELECT count(*) AS count FROM questions
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND owner = $1;

-- insert_question(id, name, description, query, tags, owner, viewers, editors, managers)
-- A new one; its maker owns it.
INSERT INTO questions (tenant_id, id, name, description, query, tags, owner, viewers, editors, managers, created_by,
    updated_by)
VALUES ((SELECT current_setting('app.current_tenant')::uuid), $1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $6, $6)
RETURNING {columns};

-- update_question(id, name, description, query, tags, actor)
-- A new revision.
UPDATE questions SET name = $2, description = $3, query = $4::jsonb, tags = $5, revision = revision + 1,
    updated_at = now(), updated_by = $6
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
RETURNING {columns};

-- set_access(id, viewers, editors, managers)
-- Another access list.
UPDATE questions SET viewers = $2, editors = $3, managers = $4, access_revision = access_revision + 1
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
RETURNING {columns};

-- set_deleted(id, is_deleted)
-- Deletes one, or takes that back.
UPDATE questions SET deleted_at = CASE WHEN $2::boolean THEN now() END
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
RETURNING {columns};

-- access_of_question(tenant_id, id)
-- For the door, which asks for a link's maker: a question's access list.
SELECT owner, viewers, editors, managers FROM questions WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL;

-- purge_questions(before, most)
-- The end of what was deleted before a moment.
DELETE FROM questions WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM questions WHERE deleted_at < $1 LIMIT $2
);
