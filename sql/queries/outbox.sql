-- Mail on its way. In: a message, or what came of an attempt. Out: messages.

-- put_message(id, tenant_id, kind, recipient, sealed, keep_trying, never)
-- One message; given up at once where it is never to be sent.
INSERT INTO outbox (id, tenant_id, kind, recipient, sealed, give_up_at, given_up_at, last_error)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval, CASE WHEN $7::text = '' THEN NULL ELSE now() END, $7);

-- claim_message(lease)
-- The message that is due longest, for one worker alone; others skip it, now and until the lease ends. `is_past`: it was
-- tried, and its time is over.
UPDATE outbox SET attempts = attempts + 1, next_attempt_at = now() + $1::interval
WHERE id = (
    SELECT id FROM outbox WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, recipient, sealed, attempts, created_at, last_error, attempts > 1 AND give_up_at <= now() AS is_past;

-- settle_sent(id, attempt)
-- It is on its way: the link is nobody's but the recipient's from now on.
UPDATE outbox SET sent_at = now(), sealed = NULL, last_error = ''
WHERE id = $1 AND attempts = $2 AND sent_at IS NULL AND given_up_at IS NULL;

-- settle_put_off(id, attempt, reason, pause)
-- It could not be sent now: later, or no more.
UPDATE outbox SET last_error = $3, next_attempt_at = now() + $4::interval,
    given_up_at = CASE WHEN now() + $4::interval > give_up_at THEN now() END
WHERE id = $1 AND attempts = $2 AND sent_at IS NULL AND given_up_at IS NULL
RETURNING given_up_at IS NOT NULL AS is_given_up;

-- settle_refused(id, attempt, reason)
-- The server will never take it.
UPDATE outbox SET last_error = $3, given_up_at = now()
WHERE id = $1 AND attempts = $2 AND sent_at IS NULL AND given_up_at IS NULL
RETURNING id;

-- list_messages(tenant_id, has_all, most)
-- Messages, newest first: of one tenant or (null) of everybody, those not sent or all.
SELECT o.id, t.slug, o.kind, o.recipient, o.sealed, o.created_at, o.next_attempt_at, o.attempts, o.last_error,
    CASE WHEN o.sent_at IS NOT NULL THEN 'sent' WHEN o.given_up_at IS NOT NULL THEN 'given_up' ELSE 'waiting' END AS state
FROM outbox o LEFT JOIN tenants t ON t.id = o.tenant_id
WHERE ($1::uuid IS NULL OR o.tenant_id = $1) AND ($2::boolean OR o.sent_at IS NULL)
ORDER BY o.created_at DESC, o.id LIMIT $3;

-- forget_messages(kept, kept_unsent)
-- What is done with, or waited too long; sooner what was never to be sent.
DELETE FROM outbox WHERE created_at < now() - $1::interval
    OR (attempts = 0 AND given_up_at IS NOT NULL AND created_at < now() - $2::interval);

-- cancel_message(id, reason)
-- One of the tenant's that is of no use any more, if it was not sent.
UPDATE outbox SET given_up_at = now(), last_error = $2
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = $1
    AND sent_at IS NULL AND given_up_at IS NULL;
