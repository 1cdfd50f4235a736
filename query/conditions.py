"""Conditions on raw events: checked here, and put together as SQL from the fragments of `sql/queries/conditions.sql`.

What a condition means, in SQL here and in Python for the workers alike:
- A field is a dimension of events or `properties.<path>`, whose steps are keys of objects; arrays are not entered.
- Its text is the dimension's (status as digits), or the JSON scalar's: a string's characters, `true` or `false`, and a
  number in plain decimals as PostgreSQL's numeric writes it (1e3 is 1000, 1.50 stays 1.50, -0 is 0). What is missing,
  null, an object or an array is ''.
- EQ, NE, IN, NOT_IN, CONTAINS and PREFIX compare that text, case and all.
- GT, GTE, LT and LTE compare decimals exactly: the status's, or a property's that is a JSON number. Anything else does
  not match, nor does a number in quotes.

Values never become text of a statement: they lie in one parameter of type text[] (`Values`), and the text that results
depends on the form of the conditions alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.filters import NUMERIC_OPS, PROPERTY_PREFIX, DimensionFilter, EventFilter, FilterOp, property_path
from core.metrics import EVENT_DIMENSIONS
from core.queries import named
from query.question import MAX_FILTER_VALUES, MAX_FILTERS, MAX_VALUE_LENGTH, bad

MAX_TYPES = 100
MAX_PATH_LENGTH = 200
MAX_PATH_STEPS = 8
# Columns of events that hold a number beside the text dimensions.
NUMBER_COLUMNS = frozenset({"status", "duration_ms", "bytes"})
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")


@dataclass(slots=True)
class Values:
    """The parameter `$<parameter>` (text[]) of a statement, filled while its conditions are put together."""

    parameter: int
    texts: list[str] = field(default_factory=list)

    def one(self, text: str) -> str:
        """The expression of one value, which is added."""
        self.texts.append(text)
        return _text("value_at").format(parameter=self.parameter, index=len(self.texts))

    def many(self, texts: Sequence[str]) -> str:
        """The expression of an array of values, which are added."""
        first = len(self.texts) + 1
        self.texts.extend(texts)
        return _text("values_at").format(parameter=self.parameter, first=first, last=len(self.texts))


def matches(filter: EventFilter, values: Values) -> str:
    """A boolean expression, never null: whether a row of events passes the filter."""
    conditions = [condition_of(condition, values) for condition in filter.conditions]
    if filter.types is not None:
        is_type = _text("is_type").format(values=values.many(filter.types)) if filter.types else _text("nothing")
        conditions.insert(0, is_type)
    if not conditions:
        return _text("everything")
    return _text("both").format(conditions=" AND ".join(conditions))


def condition_of(condition: DimensionFilter, values: Values) -> str:
    """A boolean expression, never null, of one condition."""
    template = _text(f"condition_{condition.op.value.lower()}")
    if condition.op in NUMERIC_OPS:
        return template.format(number=number_of(condition.dimension, values), value=values.one(condition.values[0]))
    text = text_of(condition.dimension, values)
    if condition.op in (FilterOp.IN, FilterOp.NOT_IN):
        return template.format(text=text, values=values.many(condition.values))
    return template.format(text=text, value=values.one(condition.values[0]))


def text_of(name: str, values: Values) -> str:
    """A text expression, never null: a dimension's or a property's value on a row of events."""
    if name.startswith(PROPERTY_PREFIX):
        return _text("property_text").format(json=_property(name, values))
    if name in ("type", "status"):
        return _text(f"column_{name}")
    return _text("column_of").format(name=_known(name, EVENT_DIMENSIONS))


def number_of(name: str, values: Values) -> str:
    """A numeric expression, null where there is no number: `status`, `duration_ms`, `bytes`, or a property."""
    if name.startswith(PROPERTY_PREFIX):
        return _text("property_number").format(json=_property(name, values))
    if name not in NUMBER_COLUMNS:
        return _text("no_number")
    return _text("column_number").format(name=name)


def check_event_filter(filter: EventFilter, place: str) -> None:
    """Everything about a filter that needs no data; `place` is the field's name, such as `steps.0`.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if filter.types is not None:
        if not 1 <= len(filter.types) <= MAX_TYPES:
            raise bad(
                "bad_filter", f"{place}.types", f"types takes 1 to {MAX_TYPES}, not {len(filter.types)}; leave it out "
                "for events of every type.",
            )  # fmt: skip
        for text in filter.types:
            check_text(text, f"{place}.types")
    if len(filter.conditions) > MAX_FILTERS:
        raise bad(
            "too_many_filters",
            f"{place}.conditions",
            f"conditions takes up to {MAX_FILTERS}, not {len(filter.conditions)}.",
        )
    for condition in filter.conditions:
        check_condition(condition, f"{place}.conditions")


def check_condition(condition: DimensionFilter, place: str) -> None:
    """One condition on a dimension or a property.

    Raises:
        BadInput: as `check_event_filter`.
    """
    check_field(condition.dimension, f"{place}.dimension")
    count = len(condition.values)
    takes_many = condition.op in (FilterOp.IN, FilterOp.NOT_IN)
    if not 1 <= count <= (MAX_FILTER_VALUES if takes_many else 1):
        wanted = f"1 to {MAX_FILTER_VALUES} values" if takes_many else "exactly one value"
        raise bad("bad_filter", f"{place}.values", f"{condition.op} takes {wanted}, not {count}.")
    for text in condition.values:
        check_text(text, f"{place}.values")
    if condition.op not in NUMERIC_OPS:
        return
    if condition.dimension != "status" and property_path(condition.dimension) is None:
        raise bad("bad_filter", place, f"{condition.op} compares numbers: status, or a property that is a number.")
    if not _NUMBER.fullmatch(condition.values[0]):
        raise bad(
            "bad_filter", f"{place}.values", f"{condition.op} takes a number such as 500 or 19.90: up to 15 digits, "
            "and 9 after the point.",
        )  # fmt: skip


def check_field(name: str, place: str) -> None:
    """A dimension of events, or a property's path.

    Raises:
        BadInput: it is neither.
    """
    path = property_path(name)
    if path is None:
        if name not in EVENT_DIMENSIONS:
            raise bad(
                "unknown_dimension",
                place,
                f"Events have no dimension {name[:80]!r}; there are {', '.join(EVENT_DIMENSIONS)}, and "
                "properties.<name>.",
            )
        return
    check_text(name, place)
    if not all(path) or len(path) > MAX_PATH_STEPS or len(name) > MAX_PATH_LENGTH:
        raise bad(
            "bad_property", place, "A property is properties.<name>, or with names of objects on the way, such as "
            f"properties.cart.total: at most {MAX_PATH_STEPS} names and {MAX_PATH_LENGTH} characters.",
        )  # fmt: skip


def check_text(text: str, place: str) -> None:
    """A text that the database can hold and compare.

    Raises:
        BadInput: it is too long, or has characters that no event can have.
    """
    if len(text) > MAX_VALUE_LENGTH or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        raise bad("bad_filter", place, f"A value has at most {MAX_VALUE_LENGTH} characters, and no NUL.")


def _property(name: str, values: Values) -> str:
    """The JSON of a property."""
    inside = _text("properties")
    for key in property_path(name) or ():
        inside = _text("property_step").format(inside=inside, key=values.one(key))
    return inside


def _known(name: str, names: Sequence[str]) -> str:
    """A column's name as our own list has it: nothing else becomes part of a statement."""
    return names[names.index(name)]


def _text(name: str) -> str:
    return named("conditions", name).text
