-- Funnels over raw events. In: a question whose every value lies in one text[] parameter. Out: what visitors reached.
--
-- `key` orders a visitor's events and says what they are, in one bigint: milliseconds since the range's start, then 16
-- bits in which a step's or an exclusion's bit is 0 where the event is of it. So events of one millisecond stand by the
-- steps they are of, and two with the same key are the same to every question.

-- settings(...)
-- For this transaction: a sort of many events in memory, a plan for these values, and no compiler started for it.
SELECT set_config('work_mem', '64MB', true), set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('jit', 'off', true);

-- answer(values)
-- The whole funnel, and each group of a breakdown in the order of its rank; `values` is what the fragments take.
WITH {visitors}, {groups}
SELECT place, label, {figures} FROM groups WHERE $1::text[] IS NOT NULL GROUP BY place, label ORDER BY place;

-- ungrouped(...)
-- All visitors.
groups AS (SELECT 0 AS place, NULL::text AS label, v.* FROM (SELECT {columns} FROM visitors) v);

-- grouped(...)
-- All visitors, and then by the value that attribution gave each: places 1 to the limit, and the rest as the one after.
-- A value that is null (the step was not reached) is a group of its own.
labelled AS (SELECT {label} AS value, {columns} FROM {labelled}),
ranked AS (
    SELECT array_agg(value ORDER BY visitors DESC, value) AS top
    FROM (
        SELECT value, count(*) AS visitors FROM labelled GROUP BY value ORDER BY visitors DESC, value
        LIMIT {limit}::integer
    ) r
),
groups AS (
    SELECT 0 AS place, NULL::text AS label, {columns} FROM visitors
    UNION ALL
    SELECT coalesce(p.place, {limit}::integer + 1), CASE WHEN p.place IS NOT NULL THEN value END, {columns}
    FROM labelled, ranked, LATERAL (SELECT array_position(top, value) AS place) p
);

-- cohort(...)
-- The visitors of a step: a condition on `visitor`.
visitor IN (WITH {visitors} SELECT visitor FROM visitors WHERE {condition});

-- reached(...)
-- Who reached a step.
t_{step} IS NOT NULL;

-- dropped(...)
-- Who reached a step and not the next.
t_{step} IS NOT NULL AND t_{next} IS NULL;

-- counted(...)
-- How many reached a step.
count(t_{step}) AS reached_{step};

-- times(...)
-- How long it took from the attempt's beginning, in milliseconds.
percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY d_{step}) AS times_{step};

-- histogram(...)
-- How many converted within each time, cumulative.
ARRAY[{counts}]::bigint[] AS histogram;

-- within(...)
-- How many within one.
count(*) FILTER (WHERE d_{step} <= {most});

-- instant(...)
-- A moment, given in seconds since 1970.
to_timestamp({value}::double precision);

-- bit(...)
-- The bit of a step or an exclusion where the event is of it.
CASE WHEN {condition} THEN {bit} ELSE 0 END;

-- hits(...)
-- Events of the question's steps and exclusions, each with its key.
hits AS (
    SELECT visitor, ((date_part('epoch', ts) - {base}::double precision) * 1000)::bigint << 16 | ({full} - bits) AS key
        {extra}
    FROM (
        SELECT visitor, ts, {bits} AS bits {labels}
        FROM events
        WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
            AND ts >= {since} AND ts < {until} {bots} AND {filters}
    ) e
    WHERE {wanted}
);

-- without_bots(...)
-- Events that are not marked as bots.
AND NOT is_bot;

-- is_hit(...)
-- Of a step or an exclusion.
bits <> 0;

-- order_by_visitor(...)
-- The events of one visitor, or of one visitor and value, in order. With labels, by them in the end, so that it is
-- certain which of two equal events comes first.
PARTITION BY {partition} ORDER BY {key};

-- segments(...)
-- With exclusions: how many have struck between two steps so far, this event's own included.
segments AS (SELECT h.*, {counts} FROM hits h WINDOW w AS ({order} ROWS UNBOUNDED PRECEDING));

-- segment(...)
-- The count for what lies between step {step} and the next.
count(*) FILTER (WHERE key & {mask} <> {mask}) OVER w AS g_{step};

-- entry(...)
-- Step 1 within the range: the attempt begins with itself.
chain_1 AS (
    SELECT e.*, CASE WHEN key & {bit} = 0 AND key >> 16 < {range} THEN {segment} (key >> 16) END AS v_1, false AS keep
    FROM {source} e
);

-- tag(...)
-- The exclusions so far, above the 36 bits of a start.
g_{step} << 36 |;

-- chain(...)
-- Step {step}: of the attempts that reached the step before, the one that began last, if it is alive. `v` is where an
-- attempt began that this event brought to the step. Rows go that no later step needs: an event stays while it may
-- belong to a later step of a living attempt, or as the visitor's first at the step before.
chain_{step} AS (
    SELECT {carried}, keep,
        CASE WHEN key & {bit} = 0 AND (key >> 16) - began <= {window} {alive} THEN {segment} began END AS v_{step}
    FROM (
        SELECT {carried}, best & 68719476735 AS began, best, keep OR v_{before} IS NOT NULL AND best IS NULL AS keep
        FROM (SELECT c.*, max(v_{before}) OVER (
            {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS best FROM chain_{before} c) b
    ) b
    WHERE keep OR key & {from_here} <> {from_here} AND (key >> 16) - began <= {window}
);

-- alive(...)
-- No exclusion since, this event's own left aside.
AND best >> 36 = g_{before} - (key & {mask} <> {mask})::integer;

-- strict_rows(...)
-- The events right before each of a visitor's.
neighbours AS (SELECT h.*, {lags} FROM hits h WINDOW w AS ({order}));

-- lag(...)
-- The key of the event so many before.
lag(key, {by}) OVER w AS k_{by};

-- strict(...)
-- Each event that completes steps 1 to k as the last k events of its visitor.
chain AS (SELECT {carried}, {steps} FROM neighbours);

-- strict_step(...)
-- Where the attempt began that this event brought to the step.
CASE WHEN key & {bit} = 0 {before} AND {first} >> 16 < {range} AND (key >> 16) - ({first} >> 16) <= {window}
    THEN {first} >> 16 END AS v_{step};

-- strict_before(...)
-- The event so many before is of the step so many before.
AND k_{by} & {bit} = 0;

-- latest(...)
-- In any order: when each step was done last, when the last step within the range was, and the last exclusion before.
latest AS (
    SELECT h.*, {steps}, max(key) FILTER (WHERE key & {all} <> {all} AND key >> 16 < {range}) OVER w AS entered
        {excluded}
    FROM hits h WINDOW w AS ({order} ROWS UNBOUNDED PRECEDING)
);

-- latest_step(...)
-- When a step was done last.
max(key) FILTER (WHERE key & {bit} = 0) OVER w AS k_{step};

-- latest_exclusion(...)
-- The last exclusion before this event.
, max(key) FILTER (WHERE key & {mask} <> {mask}) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS struck;

-- no_exclusion(...)
-- Where there is none.
, NULL::bigint AS struck;

-- any_order(...)
-- How many steps lie within one window that ends here, and where it began.
chain AS (
    SELECT {carried}, {steps}
    FROM (
        SELECT l.*, least({keys}, entered) >> 16 AS began,
            CASE WHEN {entered} THEN {done} ELSE 0 END AS done
        FROM latest l
    ) d
);

-- any_alive(...)
-- An event that is in the window and after the last exclusion.
({key} >= coalesce(struck, 0) AND (key >> 16) - ({key} >> 16) <= {window});

-- any_done(...)
-- A step that is done.
coalesce({alive}, false)::integer;

-- any_step(...)
-- Where an attempt began that has so many steps; between the first and the last it is not told.
CASE WHEN done >= {step} THEN began END AS v_{step};

-- attempts(...)
-- What each visitor (or visitor and value) reached: when first (t), how long after the attempt's beginning (d), and the
-- value there (label).
attempts AS (SELECT {partition}, {steps} {labels} FROM {chain} GROUP BY {partition} HAVING count(v_1) > 0);

-- attempt_step(...)
-- The first event that reached a step. Of events in their order the beginnings never go back, so the least of them is
-- that of the first event.
min(key >> 16) FILTER (WHERE v_{step} IS NOT NULL) AS t_{step},
min(key >> 16) FILTER (WHERE v_{step} IS NOT NULL) - min({start}) AS d_{step};

-- attempt_step_untimed(...)
-- The same without its time.
min(key >> 16) FILTER (WHERE v_{step} IS NOT NULL) AS t_{step}, NULL::bigint AS d_{step};

-- attempt_label(...)
-- The value at that event; of two at once, the lesser.
(array_agg(label ORDER BY key, label) FILTER (WHERE v_{step} IS NOT NULL))[1] AS label_{step};

-- label(...)
-- The value that a breakdown is by.
, {text} AS label;

-- held(...)
-- A value that is to stay the same.
, {text} AS held_{index};

-- is_held(...)
-- Events that have it.
AND held_{index} <> '';

-- visitors_as_attempts(...)
-- A visitor is one row.
visitors AS (SELECT * FROM attempts);

-- visitors_over(...)
-- A visitor of several values counts once: what it reached first.
{name} AS (SELECT {keys}, {steps} {labels} FROM attempts GROUP BY {keys});

-- over_step(...)
-- The first of them.
min(t_{step}) AS t_{step}, (array_agg(d_{step} ORDER BY t_{step}, d_{step}))[1] AS d_{step};

-- over_label(...)
-- Its value.
(array_agg(label_{step} ORDER BY t_{step}, label_{step}))[1] AS label_{step};

-- first_of(...)
-- The first value that there is.
coalesce({labels});
