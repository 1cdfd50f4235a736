"""Conditions on events, as data: what questions filter by, and what a metric's own filter says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# What lies under an event's `properties`, by its path: `properties.plan`, `properties.cart.total`.
PROPERTY_PREFIX = "properties."


class FilterOp(StrEnum):
    """How a dimension or a property is compared."""

    EQ = "EQ"
    NE = "NE"
    IN = "IN"
    NOT_IN = "NOT_IN"
    CONTAINS = "CONTAINS"
    PREFIX = "PREFIX"
    GT = "GT"
    GTE = "GTE"
    LT = "LT"
    LTE = "LTE"


NUMERIC_OPS = frozenset({FilterOp.GT, FilterOp.GTE, FilterOp.LT, FilterOp.LTE})


@dataclass(frozen=True, slots=True)
class DimensionFilter:
    """One condition; several are all to hold. `dimension` is a dimension of events or, in an event filter and over
    raw events, a property's path."""

    dimension: str
    op: FilterOp
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events count: of these types (None: of all), and for which every condition holds."""

    types: tuple[str, ...] | None = None
    conditions: tuple[DimensionFilter, ...] = ()


def property_path(field: str) -> tuple[str, ...] | None:
    """The path of a property below `properties`; None for a dimension."""
    return tuple(field.removeprefix(PROPERTY_PREFIX).split(".")) if field.startswith(PROPERTY_PREFIX) else None
