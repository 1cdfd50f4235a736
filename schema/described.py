"""Descriptions of what declarations leave bare: an enum's values, and arguments that mean the same everywhere."""

from __future__ import annotations

from enum import EnumMeta
from typing import TypeVar

import strawberry
from graphql import GraphQLField, GraphQLSchema, is_interface_type, is_object_type

E = TypeVar("E", bound=EnumMeta)

# An argument of another meaning says so where it is declared, by `Annotated[…, strawberry.argument(description=…)]`.
ARGUMENTS = {
    "input": "What to do, and with what.",
    "id": 'A global id, as an object\'s `id` gave it, such as "TWV0cmljOmV2ZW50cw"; opaque.',
    "ids": "Global ids, at most 100.",
    "first": "How many items, 1 to 100; 20 when absent.",
    "after": "The `cursor` of the item to go on behind, such as the `endCursor` of the page before; opaque, and good "
    "for this list of this tenant alone.",
    "search": "A text that an item must have in it, in whatever case.",
    "filter": "Which items; all of them when absent.",
    "query": "What is asked.",
    "queries": "What is asked, 1 to 20; frames name each by its index.",
    "month": 'A month in UTC, such as "2026-01"; this one when absent.',
    "range": "Which span instead of its own; see `TimeRange`.",
    "filters": "Further conditions, all of which must hold.",
    "tag": "One of its tags.",
    "deleted": "Those that are deleted, instead of those that are not.",
    "hasEnded": "Those that have ended, instead of those that are open.",
    "resumeFrom": "The `cursor` of the last frame that was seen; the stream goes on from there.",
}


def enum_of(cls: E, description: str, *, name: str | None = None, **values: str) -> E:
    """A GraphQL enum of a domain's, each of its values with a description.

    Raises:
        KeyError: a value has none: the schema is not made.
    """
    strawberry.enum(cls, name=name, description=description)
    definition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[value.name]
    return cls


def describe_arguments(schema: GraphQLSchema) -> None:
    """Gives arguments without a description the one of their name, in place."""
    for kind in schema.type_map.values():
        if (is_object_type(kind) or is_interface_type(kind)) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                _describe(field)


def _describe(field: GraphQLField) -> None:
    for name, argument in field.args.items():
        argument.description = argument.description or ARGUMENTS.get(name)
