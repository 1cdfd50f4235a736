"""What a tenant may define as a metric: limits and forms, each refusal with its remedy. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from core.contents import EventRejected
from core.errors import BadInput
from core.filters import NUMERIC_OPS, PROPERTY_PREFIX, DimensionFilter, EventFilter, FilterOp
from core.metric_definitions import MAX_COMBINATIONS, MAX_DIMENSIONS, EventAggregate
from core.metrics import BUILT_IN, EVENT_DIMENSIONS, MetricKind
from core.questions import check_text
from core.validation import check_type

MAX_TYPES = 20
MAX_CONDITIONS = 20
MAX_VALUES = 100
MAX_VALUE_LENGTH = 1024
MAX_RATE_SECONDS = 86_400
MAX_UNIT_LENGTH = 32
MAX_DESCRIPTION_LENGTH = 2_000

KEY = re.compile(r"[a-z][a-z0-9_]{0,62}")
# What would be read as a percentile in a formula, and names that the platform keeps for its own.
_TAKEN_KEYS = re.compile(r"p[0-9]+|ingest_.*")
_PROPERTY = re.compile(r"properties(\.[A-Za-z0-9_-]{1,64}){1,5}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")

NUMBER_FIELDS = ("duration_ms", "bytes")
IDENTITY_FIELDS = ("visitor", "session")
WITH_NUMBER = frozenset({MetricKind.SUM, MetricKind.AVG, MetricKind.MIN, MetricKind.MAX, MetricKind.PERCENTILE})


@dataclass(frozen=True, slots=True)
class Definition:
    """What a version is: a kind, and an aggregate or, of a FORMULA, its text."""

    kind: MetricKind
    aggregate: EventAggregate | None = None
    formula: str | None = None


def checked_key(key: str) -> str:
    """A key that a metric may have.

    Raises:
        BadInput: it has other characters, or is kept.
    """
    if not KEY.fullmatch(key):
        raise bad_metric("key", "key must be 1 to 63 of a-z, 0-9 and _, beginning with a letter.")
    if key in BUILT_IN or _TAKEN_KEYS.fullmatch(key):
        raise bad_metric("key", f"{key} is a built-in metric's key, or kept for one; take another.", "key_taken")
    return key


def checked_texts(unit: str, description: str) -> None:
    """Refuses a unit or a description that cannot be shown.

    Raises:
        BadInput: names the field and the limit.
    """
    if len(unit) > MAX_UNIT_LENGTH or not unit.isprintable():
        raise bad_metric("unit", f"unit has at most {MAX_UNIT_LENGTH} characters, all of them printable.")
    check_text(description, MAX_DESCRIPTION_LENGTH, "description")


def checked_definition(definition: Definition) -> Definition:
    """A definition whose parts fit its kind, in the form in which it is stored. What a formula refers to is another's
    to check (`core.formula_checks`).

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if definition.kind is MetricKind.FORMULA:
        if not (definition.formula or "").strip():
            raise bad_metric("formula", "A FORMULA metric needs a formula, such as orders / visitors * 100.")
        if definition.aggregate not in (None, EventAggregate()):
            raise bad_metric("kind", "A formula takes no filter, property, dimensions or rate: its metrics have them.")
        return Definition(MetricKind.FORMULA, None, definition.formula)
    if definition.formula is not None:
        raise bad_metric("formula", "Only a metric of kind FORMULA has a formula.")
    aggregate = definition.aggregate or EventAggregate()
    _check_property(definition.kind, aggregate.property)
    _check_parts(definition.kind, aggregate)
    check_filter(aggregate.filter, "filter")
    if aggregate.matching is not None:
        check_filter(aggregate.matching, "matching")
    _check_dimensions(aggregate)
    return replace(definition, aggregate=replace(aggregate, combinations=_ordered(aggregate)))


def default_unit(definition: Definition) -> str:
    """The unit of a metric whose maker names none; of a formula, its own unit tells."""
    aggregate = definition.aggregate or EventAggregate()
    match definition.kind:
        case MetricKind.COUNT:
            return "events"
        case MetricKind.UNIQUE:
            return {"visitor": "visitors", "session": "sessions"}.get(aggregate.property or "", "values")
        case MetricKind.RATIO:
            return "ratio"
    unit = {"duration_ms": "ms", "bytes": "bytes", None: "events"}.get(aggregate.property, "")
    return f"{unit or '1'}/{aggregate.rate_seconds} s" if definition.kind is MetricKind.RATE else unit


def check_filter(filter: EventFilter, field: str) -> None:
    """Refuses an event filter that cannot be used.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if filter.types is not None:
        if not 1 <= len(filter.types) <= MAX_TYPES or len(set(filter.types)) != len(filter.types):
            raise bad_metric(f"{field}.types", f"{field}.types has 1 to {MAX_TYPES} types, each once; left out, events "
                             "of all types count.")  # fmt: skip
        for type in filter.types:
            try:
                check_type(type)
            except EventRejected as refusal:
                raise bad_metric(f"{field}.types", refusal.message) from None
    if len(filter.conditions) > MAX_CONDITIONS:
        raise bad_metric(f"{field}.conditions", f"{field}.conditions has at most {MAX_CONDITIONS}.")
    for condition in filter.conditions:
        _check_condition(condition, f"{field}.conditions")


def check_field(name: str, field: str) -> None:
    """Refuses what is neither a dimension of events nor a property's path.

    Raises:
        BadInput: says what there is.
    """
    if name not in EVENT_DIMENSIONS and not _PROPERTY.fullmatch(name):
        raise bad_metric(
            field,
            f"There is no {name[:80]!r} of events; there are {', '.join(EVENT_DIMENSIONS)}, and properties by their "
            f"path: {PROPERTY_PREFIX}plan, up to 5 names of letters, digits, _ and -.",
            "unknown_dimension",
        )


def bad_metric(field: str, message: str, code: str = "bad_metric") -> BadInput:
    return BadInput(message, code=code, field=field)


def _check_property(kind: MetricKind, property: str | None) -> None:
    if property is None:
        if kind in WITH_NUMBER or kind is MetricKind.UNIQUE:
            wanted = "visitor, session, a dimension or a property" if kind is MetricKind.UNIQUE else "a number"
            raise bad_metric("property", f"A metric of kind {kind} needs a property: {wanted}, such as "
                             f"{'visitor' if kind is MetricKind.UNIQUE else 'properties.amount'}.")  # fmt: skip
        return
    if kind is MetricKind.UNIQUE:
        if property not in IDENTITY_FIELDS:
            check_field(property, "property")
    elif kind in WITH_NUMBER or kind is MetricKind.RATE:
        if property not in NUMBER_FIELDS and not _PROPERTY.fullmatch(property):
            raise bad_metric(
                "property",
                f"{kind} takes a number: {', '.join(NUMBER_FIELDS)}, or a property by its path, such as "
                f"{PROPERTY_PREFIX}amount (up to 5 names of letters, digits, _ and -).",
            )
    else:
        raise bad_metric("property", f"A metric of kind {kind} counts events; it takes no property.")


def _check_parts(kind: MetricKind, aggregate: EventAggregate) -> None:
    if (aggregate.matching is not None) is not (kind is MetricKind.RATIO):
        needs = "A RATIO needs `matching`: which of its events are above the line."
        raise bad_metric("matching", needs if kind is MetricKind.RATIO else f"Only a RATIO has `matching`, not {kind}.")
    if kind is not MetricKind.RATE and aggregate.rate_seconds != EventAggregate().rate_seconds:
        raise bad_metric("rateSeconds", f"Only a RATE has rateSeconds, not {kind}.")
    if not 1 <= aggregate.rate_seconds <= MAX_RATE_SECONDS:
        raise bad_metric("rateSeconds", f"rateSeconds must be 1 to {MAX_RATE_SECONDS}.")


def _check_dimensions(aggregate: EventAggregate) -> None:
    names = aggregate.dimensions
    if len(names) > MAX_DIMENSIONS or len(set(names)) != len(names):
        raise bad_metric("dimensions", f"A metric has at most {MAX_DIMENSIONS} dimensions, each once; take those that "
                         "are asked for most.")  # fmt: skip
    for name in names:
        check_field(name, "dimensions")
    combinations = [frozenset(combination) for combination in aggregate.combinations]
    if len(combinations) > MAX_COMBINATIONS or len(set(combinations)) != len(combinations):
        raise bad_metric("combinations", f"A metric has at most {MAX_COMBINATIONS} combinations, each once.")
    for combination, given in zip(combinations, aggregate.combinations, strict=True):
        if len(given) < 2 or len(combination) != len(given) or not combination <= set(names):
            raise bad_metric("combinations", "A combination has two or more of the metric's `dimensions`, each once.")


def _ordered(aggregate: EventAggregate) -> tuple[tuple[str, ...], ...]:
    """Combinations in the order of the dimensions, which is that of a cell's values."""
    return tuple(
        tuple(name for name in aggregate.dimensions if name in combination) for combination in aggregate.combinations
    )


def _check_condition(condition: DimensionFilter, field: str) -> None:
    check_field(condition.dimension, f"{field}.dimension")
    takes_many = condition.op in (FilterOp.IN, FilterOp.NOT_IN)
    if not 1 <= len(condition.values) <= (MAX_VALUES if takes_many else 1):
        wanted = f"1 to {MAX_VALUES} values" if takes_many else "exactly one value"
        raise bad_metric(f"{field}.values", f"{condition.op} takes {wanted}, not {len(condition.values)}.")
    for value in condition.values:
        check_text(value, MAX_VALUE_LENGTH, f"{field}.values")
    if condition.op in NUMERIC_OPS:
        is_of_numbers = condition.dimension == "status" or condition.dimension.startswith(PROPERTY_PREFIX)
        if not is_of_numbers or not _NUMBER.fullmatch(condition.values[0]):
            raise bad_metric(field, f"{condition.op} compares numbers: `status` or a property, with a number such as "
                             "500 or 9.99.")  # fmt: skip
