-- Jobs: what is done for a tenant outside of a request. In: who asks, or which worker holds one. Out: jobs.

-- ask_job(kind, arguments, asked_by, request_id, begins_at)
-- A new job of the tenant; nothing while another of its kind is open.
INSERT INTO jobs (tenant_id, kind, arguments, asked_by, request_id, begins_at)
VALUES (current_setting('app.current_tenant')::uuid, $1, $2::jsonb, $3, $4, coalesce($5, now()))
ON CONFLICT (tenant_id, kind) WHERE state IN ('waiting', 'running') AND kind <> 'backfill_metric'
DO NOTHING RETURNING *;

-- list_jobs(first, before_id)
-- A page of the tenant's jobs, newest first.
SELECT * FROM jobs
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $1;

-- count_jobs()
-- How many jobs the tenant has.
SELECT count(*) AS jobs FROM jobs WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- count_files()
-- How many files of exports are kept for the tenant.
SELECT count(*) AS files FROM jobs
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND expires_at > now();

-- find_jobs(ids)
-- Some of the tenant's jobs.
SELECT * FROM jobs WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::uuid[]);

-- cancel_job(id)
-- Ends a waiting job at once, and tells the worker of a running one; nothing when it has ended.
UPDATE jobs SET is_cancel_asked = true,
    state = CASE state WHEN 'waiting' THEN 'cancelled' ELSE state END,
    ended_at = CASE state WHEN 'waiting' THEN now() ELSE ended_at END
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
    AND state IN ('waiting', 'running') AND kind NOT IN ('delete_tenant', 'backfill_metric')
RETURNING *;

-- cancel_deletion()
-- Ends the job that would delete the tenant; whoever runs it finds its lease gone.
UPDATE jobs SET state = 'cancelled', ended_at = now(), lease_holder = '', leased_until = NULL
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND kind = 'delete_tenant' AND state IN ('waiting', 'running')
RETURNING id;

-- claim_job(holder, lease_seconds)
-- The next job whose time has come, or whose worker is gone, with a lease on it.
UPDATE jobs SET state = 'running', lease_holder = $1, leased_until = now() + make_interval(secs => $2::float8),
    began_at = coalesce(began_at, now()), attempts = attempts + 1
WHERE (tenant_id, id) = (
    SELECT tenant_id, id FROM jobs
    WHERE state = 'waiting' AND begins_at <= now() OR state = 'running' AND leased_until < now()
    ORDER BY begins_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING *;

-- keep_lease(tenant_id, id, holder, lease_seconds)
-- Says that the holder is at work still; nothing when the job is not its own any more.
UPDATE jobs SET leased_until = now() + make_interval(secs => $4::float8)
WHERE tenant_id = $1 AND id = $2 AND lease_holder = $3 AND state = 'running' RETURNING is_cancel_asked;

-- note_progress(tenant_id, id, holder, progress, doing, place)
-- How far it is, and where to go on from; what got further than ever is begun anew as often as a new job.
UPDATE jobs SET progress = greatest(progress, $4), doing = $5, place = $6::jsonb,
    attempts = CASE WHEN $4 > progress THEN 1 ELSE attempts END
WHERE tenant_id = $1 AND id = $2 AND lease_holder = $3 AND state = 'running' RETURNING is_cancel_asked;

-- end_job(tenant_id, id, holder, state, result, error, expires_at)
-- The end of a job, told by its holder.
UPDATE jobs SET state = $4, result = $5::jsonb, error = $6, expires_at = $7, ended_at = now(), place = '{}',
    progress = CASE $4 WHEN 'done' THEN 1 ELSE progress END, doing = '', lease_holder = '', leased_until = NULL
WHERE tenant_id = $1 AND id = $2 AND lease_holder = $3 AND state = 'running' RETURNING id;

-- give_back_job(tenant_id, id, holder, begins_at, is_counted)
-- Leaves a job to be taken up again, by anybody, from a moment on; whether this was one of its attempts.
UPDATE jobs SET state = 'waiting', begins_at = $4, lease_holder = '', leased_until = NULL,
    attempts = CASE WHEN $5 THEN attempts ELSE greatest(attempts - 1, 0) END
WHERE tenant_id = $1 AND id = $2 AND lease_holder = $3 AND state = 'running' RETURNING id;

-- list_expired()
-- Jobs whose files are past their time.
SELECT tenant_id, id FROM jobs WHERE expires_at <= now() LIMIT 1000;

-- end_file(tenant_id, id)
-- Notes that a job's file is gone.
UPDATE jobs SET expires_at = NULL WHERE tenant_id = $1 AND id = $2;

-- find_wanted(ids)
-- Which of these jobs have a file, or may still make one.
SELECT id FROM jobs WHERE id = ANY($1::uuid[]) AND (expires_at > now() OR state IN ('waiting', 'running'));

-- forget_jobs(before)
-- Jobs that ended long ago.
DELETE FROM jobs WHERE ended_at < $1 AND expires_at IS NULL;
