-- Retention over raw events. In: a question whose every value lies in one text[] parameter. Out: cohorts and who came
-- back. A visitor's periods are the bits of one bigint, so that its events fold into two numbers without a sort:
-- bit 0 is whatever was before the range, bits 1 to n its periods.

-- answer(values)
-- For each cohort how many visitors it has, and how many of them came back after 0, 1, 2, ... periods.
WITH visitors AS ({visitors}), cohorts AS ({cohorts})
SELECT place, count(*) AS visitors, ARRAY[{counts}]::bigint[] AS returned
FROM cohorts WHERE $1::text[] IS NOT NULL GROUP BY place;

-- visitors(...)
-- In which periods each visitor did the first event, and in which the other.
SELECT visitor, bit_or(1::bigint << slot) FILTER (WHERE is_start) AS started,
    coalesce(bit_or(1::bigint << slot) FILTER (WHERE is_return), 0) AS returned
FROM (
    SELECT visitor, width_bucket(ts, ARRAY(SELECT to_timestamp(edge::double precision) FROM unnest({edges}) AS edge))
        AS slot, {start} AS is_start, {return} AS is_return
    FROM events
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
        AND ts < {until} AND {since} {bots} AND {filters}
) e
WHERE is_start OR is_return
GROUP BY visitor HAVING bool_or(is_start);

-- since_range(...)
-- Events of the range.
ts >= {start};

-- since_ever(...)
-- Also what was before it, as far back as raw events are kept, of the event that makes one new.
(ts >= {start} OR {is_start});

-- first_time(...)
-- Each visitor in the period of the first event that is known of it, if the range has that. The bit of a period divides
-- as a shift does.
SELECT started & -started AS place, returned / (started & -started) AS after FROM visitors WHERE started & 1 = 0;

-- recurring(...)
-- Each visitor in every period in which it did the event.
SELECT 1::bigint << period AS place, returned >> period AS after
FROM visitors, generate_series(1, {periods}) AS period WHERE started >> period & 1 = 1;

-- on_period(...)
-- Came back in that very period.
count(*) FILTER (WHERE after & {bit} <> 0);

-- on_or_after_period(...)
-- Came back in that period or a later one.
count(*) FILTER (WHERE after >= {bit});
