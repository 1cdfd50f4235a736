-- Paths of sessions or visitors through steps. In: a range, conditions, an anchor. Out: nodes, links and whole paths.

-- paths(starts_at, ends_at, bots, values, limit)
-- How often which step lies how far from where a path begins; past the first `limit` of a level, steps are one.
WITH visited AS (
    SELECT unit, ts, id, step FROM (
        SELECT {unit} AS unit, ts, id, {step} AS step FROM events
        WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
            AND ts >= $1 AND ts < $2 AND is_bot = ANY($3::boolean[]) AND $4::text[] IS NOT NULL AND {conditions}
    ) seen
    WHERE unit IS NOT NULL AND step <> '' AND {included}
), kept AS (
    {kept}
), around AS (
    SELECT unit, ts, id, step, ARRAY[{levels}]::text[] AS steps FROM kept
    WINDOW unit_order AS (PARTITION BY unit ORDER BY ts, id)
), walks AS MATERIALIZED (
    SELECT steps, count(*) AS paths FROM ({picked}) picked GROUP BY steps
), placed AS MATERIALIZED (
    SELECT level, step, sum(paths)::bigint AS paths,
        row_number() OVER (PARTITION BY level ORDER BY sum(paths) DESC, step COLLATE "C") > $5::integer AS is_other
    FROM walks, unnest(steps) WITH ORDINALITY AS place (step, level)
    WHERE step IS NOT NULL GROUP BY level, step
)
SELECT 'node' AS part, level::integer, CASE WHEN NOT is_other THEN step END AS source, is_other AS is_source_other,
    NULL::text AS target, false AS is_target_other, NULL::text[] AS steps, sum(paths)::bigint AS paths
FROM placed GROUP BY 1, 2, 3, 4
UNION ALL
SELECT 'link', place.level, CASE WHEN NOT s.is_other THEN s.step END, coalesce(s.is_other, false),
    CASE WHEN NOT t.is_other THEN t.step END, coalesce(t.is_other, false), NULL, sum(walks.paths)::bigint
FROM walks CROSS JOIN LATERAL generate_series(1, cardinality(steps) - 1) AS place (level)
LEFT JOIN placed s ON s.level = place.level AND s.step = steps[place.level]
LEFT JOIN placed t ON t.level = place.level + 1 AND t.step = steps[place.level + 1]
WHERE steps[place.level] IS NOT NULL OR steps[place.level + 1] IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6
UNION ALL
SELECT 'total', 0, NULL, false, NULL, false, NULL, coalesce(sum(paths), 0)::bigint FROM walks
UNION ALL
(SELECT 'walk', 0, NULL, false, NULL, false, steps, paths FROM walks
ORDER BY paths DESC, array_to_string(steps, chr(1), '') COLLATE "C" LIMIT $5);

-- unit_session(...)
-- Paths of sessions; events without one are on none.
session;

-- unit_visitor(...)
-- Paths of visitors.
visitor;

-- step_text(...)
-- A step's name; what is longer than anybody reads is cut.
left({text}, 1024);

-- step_or_anchor(...)
-- The same, but that events of one type are steps of their own, whatever they have for a name.
CASE WHEN type = {type} THEN {mark} || type ELSE left({text}, 1024) END;

-- also_anchor(...)
-- Events that pass, and those of the anchor's type.
({conditions} OR type = {type});

-- not_excluded(...)
-- Steps that are passed over.
NOT step = ANY({values});

-- each_visit(...)
-- Every step.
SELECT unit, ts, id, step FROM visited;

-- each_change(...)
-- A step that is repeated counts once.
SELECT unit, ts, id, step FROM (
    SELECT unit, ts, id, step, lag(step) OVER (PARTITION BY unit ORDER BY ts, id) AS before FROM visited
) followed WHERE before IS DISTINCT FROM step;

-- steps_before(...)
-- The step so many before.
lag(step, {distance}) OVER unit_order;

-- step_itself(...)
-- The step where a path begins.
step;

-- steps_after(...)
-- The step so many after.
lead(step, {distance}) OVER unit_order;

-- is_anchor(...)
-- Whether a path begins here.
step = {value};

-- pick_every(...)
-- A path from each such step.
SELECT steps FROM around WHERE {anchored};

-- pick_first(...)
-- A path from the first one of each unit.
SELECT DISTINCT ON (unit) steps FROM around WHERE {anchored} ORDER BY unit, ts, id;

-- pick_last(...)
-- A path from the last one of each unit.
SELECT DISTINCT ON (unit) steps FROM around WHERE {anchored} ORDER BY unit, ts DESC, id DESC;
