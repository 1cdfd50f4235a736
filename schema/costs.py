"""What fields cost and which are paged, read from their declarations: no second list of names to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strawberry.types.base import StrawberryObjectDefinition

from schema.guarded import COST

if TYPE_CHECKING:
    from strawberry import Schema


@dataclass(frozen=True, slots=True)
class Costs:
    """By a field's name, as a document's pass knows no types: what it costs before its selection, and whether its
    selection counts once for each of `first` items."""

    weights: dict[str, int]
    paged: frozenset[str]


def costs_of(schema: Schema) -> Costs:
    """What the schema's fields declare. A name that is declared in two ways costs the most of them."""
    weights: dict[str, int] = {}
    paged: set[str] = set()
    for concrete in schema.schema_converter.type_map.values():
        definition = concrete.definition
        if not isinstance(definition, StrawberryObjectDefinition) or definition.is_input:
            continue
        for field in definition.fields:
            name = schema.config.name_converter.from_field(field)
            if cost := field.metadata.get(COST):
                weights[name] = max(weights.get(name, 0), cost)
            if any(argument.python_name == "first" for argument in field.arguments):
                paged.add(name)
    return Costs(weights, frozenset(paged))
