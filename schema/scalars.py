"""Custom scalars."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime
from typing import Any, NewType

import msgspec
import strawberry
from graphql import (
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    ValueNode,
    VariableNode,
    value_from_ast_untyped,
)
from graphql.pyutils import Undefined
from strawberry.schema.types.base_scalars import DateDefinition, DateTimeDefinition

from query.answer import Columns

ColumnsJSON = NewType("ColumnsJSON", object)
JSONValue = NewType("JSONValue", object)

_encoder = msgspec.json.Encoder()


def encode_columns(columns: Columns | msgspec.Raw) -> msgspec.Raw:
    """Columns as JSON that is already encoded: the answer's encoder copies it, point by point work is not done."""
    return columns if isinstance(columns, msgspec.Raw) else msgspec.Raw(_encoder.encode(columns))


def literal_json(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
    """The JSON value of a literal; a variable within it that was not given is left out.

    Raises:
        GraphQLError: a number that 64 bits do not hold.
    """
    match node:
        case VariableNode():
            return (variables or {}).get(node.name.value, Undefined)
        case ListValueNode():
            items = [literal_json(item, variables) for item in node.values]
            return [None if item is Undefined else item for item in items]
        case ObjectValueNode():
            fields = {field.name.value: literal_json(field.value, variables) for field in node.fields}
            return {name: value for name, value in fields.items() if value is not Undefined}
        case IntValueNode() if len(node.value) > 20 or not -(2**63) <= int(node.value) < 2**63:
            raise GraphQLError("A whole number is outside 64 bits (±2^63); send it as text or as a float.", node)
        case FloatValueNode() if not math.isfinite(float(node.value)):
            raise GraphQLError("A number is beyond what a double holds; send it as text.", node)
    return value_from_ast_untyped(node, variables)


def _refuse(value: Any) -> Any:
    raise ValueError("Columns are only ever an answer.")


SCALARS: dict[object, Any] = {
    datetime: dataclasses.replace(
        DateTimeDefinition,
        description='A moment, RFC 3339 with a zone, such as "2026-01-31T08:30:00Z" or "2026-01-31T09:30:00.5+01:00".',
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    ),
    date: dataclasses.replace(
        DateDefinition,
        description='A day, RFC 3339, such as "2026-01-31".',
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
    ),
    ColumnsJSON: strawberry.scalar(
        name="Columns",
        # JSON in a shape of ours, which the description draws.
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        description=(
            'A chart as JSON: {"timestamps": [epoch ms of each bucket\'s start], "series": [{"labels": {"status": '
            '"404"}, "values": [number or null, one per timestamp], "total": number or null}]}. null is "no value"; '
            "counts and sums of nothing are 0. `total` is the metric over the whole range, from the merged parts."
        ),
        serialize=encode_columns,
        parse_value=_refuse,
    ),
    JSONValue: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=lambda value: value,
        parse_value=lambda value: value,
        parse_literal=literal_json,
    ),
}
