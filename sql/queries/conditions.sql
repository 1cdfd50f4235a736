-- Conditions on raw events. In: fragments of query/conditions.py, whose values all lie in one text[] parameter of the
-- statement they become part of. Out: expressions over a row of events.

-- value_at(...)
-- One of the values.
(${parameter}::text[])[{index}];

-- values_at(...)
-- Several values that lie side by side.
(${parameter}::text[])[{first}:{last}];

-- column_type(...)
-- The type.
type;

-- column_status(...)
-- The status as text, '' where there is none.
coalesce(status::text, '');

-- column_of(...)
-- A text dimension; the name comes from the list of dimensions.
{name};

-- properties(...)
-- What an event was sent with.
details -> 'properties';

-- property_step(...)
-- One step into an object; arrays are not entered.
{inside} -> {key};

-- property_text(...)
-- A property's scalar as text; '' where there is none, and for null, objects and arrays.
coalesce(CASE WHEN jsonb_typeof({json}) IN ('string', 'number', 'boolean') THEN {json} #>> '{{}}' END, '');

-- property_number(...)
-- A property's number; null where it is none.
CASE WHEN jsonb_typeof({json}) = 'number' THEN ({json})::numeric END;

-- column_number(...)
-- A column's number; null where there is none.
{name}::numeric;

-- no_number(...)
-- Of a field that has none.
NULL::numeric;

-- is_type(...)
-- One of some types.
type = ANY({values});

-- both(...)
-- All of several expressions.
({conditions});

-- everything(...)
-- Where nothing is asked of an event.
true;

-- nothing(...)
-- Where no event can be meant.
false;

-- condition_eq(...)
-- Is the value.
{text} = {value};

-- condition_ne(...)
-- Is not the value.
{text} <> {value};

-- condition_in(...)
-- Is one of the values.
{text} = ANY({values});

-- condition_not_in(...)
-- Is none of the values.
NOT {text} = ANY({values});

-- condition_contains(...)
-- Has a text in it, which is taken literally.
strpos({text}, {value}) > 0;

-- condition_prefix(...)
-- Begins with a text, which is taken literally.
starts_with({text}, {value});

-- condition_gt(...)
-- A number above; what is no number does not match.
coalesce({number} > {value}::numeric, false);

-- condition_gte(...)
-- A number at or above.
coalesce({number} >= {value}::numeric, false);

-- condition_lt(...)
-- A number below.
coalesce({number} < {value}::numeric, false);

-- condition_lte(...)
-- A number at or below.
coalesce({number} <= {value}::numeric, false);
