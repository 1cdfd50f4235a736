"""Custom scalars."""

from __future__ import annotations

from typing import Any, NewType

import msgspec
import strawberry

from query.answer import Columns

ColumnsJSON = NewType("ColumnsJSON", object)
JSONValue = NewType("JSONValue", object)

_encoder = msgspec.json.Encoder()


def encode_columns(columns: Columns) -> msgspec.Raw:
    """Columns as JSON that is already encoded: the answer's encoder copies it, point by point work is not done."""
    return msgspec.Raw(_encoder.encode(columns))


def _refuse(value: Any) -> Any:
    raise ValueError("Columns are only ever an answer.")


SCALARS: dict[object, Any] = {
    ColumnsJSON: strawberry.scalar(
        name="Columns",
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
    ),
}
