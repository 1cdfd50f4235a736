"""What a metric's definition asks of an event, as functions of it: whether a filter lets it pass, a field's text, its
number. The same in Python as `query/conditions.py` is in SQL; its head says what a condition means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from operator import ge, gt, le, lt
from typing import Any

import msgspec

from core.events import EnrichedEvent
from core.filters import NUMERIC_OPS, DimensionFilter, EventFilter, FilterOp, property_path

NUMBER_COLUMNS = frozenset({"status", "duration_ms", "bytes"})
# What PostgreSQL's numeric has room for, before and after the point: an event with a number beyond is not stored.
MAX_DIGITS, MAX_FRACTION = 131_072, 16_383
COMPARISONS = {FilterOp.GT: gt, FilterOp.GTE: ge, FilterOp.LT: lt, FilterOp.LTE: le}


class Seen:
    """An event, whose properties are read at most once, whatever looks into them."""

    __slots__ = ("_properties", "event")

    def __init__(self, event: EnrichedEvent) -> None:
        self.event = event
        self._properties: Any = None

    def property(self, path: Sequence[str]) -> Any:
        """What lies at a path, None where nothing does; numbers with a point or an exponent are Decimals."""
        if self._properties is None:
            self._properties = _read(self.event.properties)
        found = self._properties
        for key in path:
            if not isinstance(found, dict):
                return None
            found = found.get(key)
        return found


Test = Callable[[Seen], bool]
TextOf = Callable[[Seen], str]
NumberOf = Callable[[Seen], Decimal | None]


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_number)


def _read(properties: bytes) -> Any:
    try:
        return _decoder.decode(properties)
    except msgspec.DecodeError:
        # Whole numbers of thousands of digits, which PostgreSQL takes.
        return json.loads(properties, parse_int=_number, parse_float=_number)


def matcher(filter: EventFilter) -> Test:
    """Whether an event passes a filter."""
    types = None if filter.types is None else frozenset(filter.types)
    tests = [_test(condition) for condition in filter.conditions]
    return lambda seen: (types is None or seen.event.type in types) and all(test(seen) for test in tests)


def text_of(name: str) -> TextOf:
    """A dimension's or a property's text; '' where there is none."""
    path = property_path(name)
    if path is not None:
        return lambda seen: property_text(seen.property(path))
    if name == "status":
        return lambda seen: "" if seen.event.status is None else str(seen.event.status)
    return lambda seen: str(getattr(seen.event, name))


def number_of(name: str) -> NumberOf:
    """A number of `status`, `duration_ms`, `bytes` or a property; None where there is none."""
    path = property_path(name)
    if path is not None:
        return lambda seen: property_number(seen.property(path))
    if name not in NUMBER_COLUMNS:
        return lambda seen: None
    return lambda seen: _column_number(getattr(seen.event, name))


def property_text(value: Any) -> str:
    """A JSON scalar as PostgreSQL's `#>> '{}'` has it; '' of null, objects and arrays."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            number = Decimal(value)
            exponent = number.as_tuple().exponent
            if number.adjusted() >= MAX_DIGITS or not isinstance(exponent, int) or exponent < -MAX_FRACTION:
                return ""
            return format(number if number else abs(number), "f")
        case _:
            return ""


def property_number(value: Any) -> Decimal | None:
    """A JSON number; nothing else is one."""
    return Decimal(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else None


def _column_number(value: int | float | None) -> Decimal | None:
    """As `::numeric` makes it: of a double, its 15 significant digits."""
    if isinstance(value, float):
        return Decimal(format(value, ".15g"))
    return None if value is None else Decimal(value)


def _test(condition: DimensionFilter) -> Test:
    name, wanted = condition.dimension, condition.values
    if condition.op in NUMERIC_OPS:
        number, bound, compare = number_of(name), Decimal(wanted[0]), COMPARISONS[condition.op]
        return lambda seen: (found := number(seen)) is not None and bool(compare(found, bound))
    text, first, several = text_of(name), wanted[0], frozenset(wanted)
    match condition.op:
        case FilterOp.EQ:
            return lambda seen: text(seen) == first
        case FilterOp.NE:
            return lambda seen: text(seen) != first
        case FilterOp.IN:
            return lambda seen: text(seen) in several
        case FilterOp.NOT_IN:
            return lambda seen: text(seen) not in several
        case FilterOp.CONTAINS:
            return lambda seen: first in text(seen)
        case _:
            return lambda seen: text(seen).startswith(first)
