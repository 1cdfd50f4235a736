"""What there is to ask for: which properties events have, and which values fields have, for autocompletion.

Properties and their values come from a sample: of the newest 100,000 events of the range, up to 5,000 of the types
asked for, and of properties no more than 8 MiB as they are stored. So the time it takes is bounded however much there
is, and the answer says how many events it looked at. Values of dimensions come from counts by the hour, of all events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from core.errors import BadInput
from core.filters import PROPERTY_PREFIX
from core.metrics import EVENT_DIMENSIONS
from core.queries import named
from core.rollups import TOTAL
from core.tenancy import Tenant
from query.conditions import MAX_TYPES, Values, check_field, check_text, text_of
from query.narrowing import Range
from query.planner import Source
from query.question import bad
from query.raw import RawEvents, span_of

MAX_SCANNED = 100_000
MAX_SAMPLED = 5_000
MAX_SAMPLED_BYTES = 8 * 1024 * 1024
# Names on the way to a property; what lies deeper is not looked for.
MAX_STEPS = 5
MAX_FIRST = 100
DEFAULT_FIRST = 20
DEFAULT_RANGE = Range(last="7d")
LIST_PROPERTIES = named("discovery", "list_properties")
TOP_OF_SAMPLE = named("discovery", "top_of_sample")
TOP_OF_ROLLUP = named("discovery", "top_of_rollup")


class JSONType(StrEnum):
    """What a property's value is."""

    STRING = "STRING"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    NULL = "NULL"
    ARRAY = "ARRAY"
    OBJECT = "OBJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryQuestion:
    """What is looked for: in events of these types (None: of all), names or values that have `search` in them."""

    range: Range = DEFAULT_RANGE
    types: tuple[str, ...] | None = None
    search: str = ""
    first: int = DEFAULT_FIRST


@dataclass(frozen=True, slots=True)
class TypeCount:
    """In how many events a property is of that type."""

    type: JSONType
    count: int


@dataclass(frozen=True, slots=True)
class Property:
    """One property. `name` is what conditions take, if `is_filterable`: there are names that no condition can say, as
    those with a point in them."""

    name: str
    types: tuple[TypeCount, ...]
    count: int
    share: float
    is_filterable: bool


@dataclass(frozen=True, slots=True)
class PropertySample:
    """What properties `events_read` events have, none of them older than `oldest`; the commonest first."""

    properties: tuple[Property, ...]
    events_read: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How many events have a value."""

    value: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class TopValues:
    """The commonest values of a field among `events_read` events that are not older than `oldest`."""

    values: tuple[ValueCount, ...]
    events_read: int
    oldest: datetime | None
    source: Source


async def list_properties(raw: RawEvents, tenant: Tenant, question: DiscoveryQuestion) -> PropertySample:
    """Properties of recent events.

    Raises:
        BadInput: the question is not one, or takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_discovery(question)
    from_, to = span_of(question.range, datetime.now(UTC))
    head, *rows = await raw.fetch(
        tenant, LIST_PROPERTIES, from_, to, _types(question), MAX_SCANNED, MAX_SAMPLED, MAX_SAMPLED_BYTES, MAX_STEPS,
        question.search, question.first,
    )  # fmt: skip
    read = head["events"]
    properties = tuple(_property(row["path"], row["events"], row["types"], read) for row in rows)
    return PropertySample(properties, read, head["oldest"])


async def top_values(raw: RawEvents, tenant: Tenant, field: str, question: DiscoveryQuestion) -> TopValues:
    """The commonest values of a dimension, or of a property in recent events.

    Raises:
        BadInput: the question is not one, or takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_field(field, "field")
    check_discovery(question)
    from_, to = span_of(question.range, datetime.now(UTC))
    if field in EVENT_DIMENSIONS:
        source = Source.ROLLUP_1H
        column = named("discovery", "value_of_type" if field == "type" else "value_of_dimension").text
        from_ = from_.replace(minute=0, second=0, microsecond=0)
        head, *rows = await raw.fetch(
            tenant, TOP_OF_ROLLUP.filled(column=column), from_, to, _types(question),
            TOTAL if field == "type" else field, question.search, question.first,
        )  # fmt: skip
    else:
        source, values = Source.RAW, Values(8)
        query = TOP_OF_SAMPLE.filled(text=text_of(field, values))
        head, *rows = await raw.fetch(
            tenant, query, from_, to, _types(question), MAX_SCANNED, MAX_SAMPLED, question.search, question.first,
            values.texts,
        )  # fmt: skip
    read = head["events"]
    found = tuple(ValueCount(row["value"], row["events"], row["events"] / read) for row in rows)
    return TopValues(found, read, head["oldest"], source)


def check_discovery(question: DiscoveryQuestion) -> None:
    """Everything about a question that needs no data.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if not 1 <= question.first <= MAX_FIRST:
        raise BadInput(f"first must be 1 to {MAX_FIRST}; narrow it with `search`.", code="page_size", field="first")
    check_text(question.search, "search")
    if question.types is not None and not 1 <= len(question.types) <= MAX_TYPES:
        raise bad("bad_filter", "types", f"types takes 1 to {MAX_TYPES}; leave it out for events of every type.")
    for text in question.types or ():
        check_text(text, "types")


def _types(question: DiscoveryQuestion) -> list[str] | None:
    return None if question.types is None else list(question.types)


def _property(path: list[str], count: int, types: str, read: int) -> Property:
    name = PROPERTY_PREFIX + ".".join(path)
    counts: dict[str, int] = msgspec.json.decode(types)
    by_type = tuple(
        TypeCount(JSONType(type.upper()), found) for type, found in sorted(counts.items(), key=lambda t: (-t[1], t[0]))
    )
    return Property(name, by_type, count, count / read, _is_sayable(name, path))


def _is_sayable(name: str, path: list[str]) -> bool:
    """Whether a condition can name such a property."""
    try:
        check_field(name, "")
    except BadInput:
        return False
    return not any("." in step for step in path)
