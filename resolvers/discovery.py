"""Where names of properties and values of fields come from."""

from __future__ import annotations

from query.discovery import DEFAULT_FIRST, DEFAULT_RANGE, DiscoveryQuestion, PropertySample, TopValues
from query.discovery import list_properties as properties_of
from query.discovery import top_values as values_of
from query.narrowing import Range
from resolvers.context import Context


def discovery_of(
    range: Range | None, types: list[str] | None, search: str | None, first: int | None
) -> DiscoveryQuestion:
    """A question as it was asked; what was left out is as it is meant by default."""
    return DiscoveryQuestion(
        range=DEFAULT_RANGE if range is None else range,
        types=None if types is None else tuple(types),
        search=search or "",
        first=DEFAULT_FIRST if first is None else first,
    )


async def list_properties(context: Context, question: DiscoveryQuestion) -> PropertySample:
    """Properties that recent events of the caller's tenant have.

    Raises:
        BadInput, DatabaseUnavailable: as `query.discovery.list_properties`.
    """
    return await properties_of(context.backends.raw, context.principal.tenant, question)


async def list_top_values(context: Context, field: str, question: DiscoveryQuestion) -> TopValues:
    """Values that a dimension or a property has, the commonest first.

    Raises:
        BadInput, DatabaseUnavailable: as `query.discovery.top_values`.
    """
    return await values_of(context.backends.raw, context.principal.tenant, field, question)
