"""The published schema."""

from __future__ import annotations

from pathlib import Path

from graphql import GraphQLObjectType, is_input_object_type, is_interface_type, is_object_type

from schema.build import schema

SDL = Path(__file__).resolve().parent.parent.parent / "schema/schema.graphql"


def test_the_committed_schema_is_current() -> None:
    assert SDL.read_text().strip() == schema.as_str().strip(), "run make schema"


def test_every_type_field_and_argument_is_described() -> None:
    bare = []
    for name, kind in schema._schema.type_map.items():
        if name.startswith("__"):
            continue
        if is_object_type(kind) or is_interface_type(kind) or is_input_object_type(kind):
            if not kind.description and kind.name not in ("Query", "Mutation", "Subscription"):
                bare.append(name)
            bare += [f"{name}.{field}" for field, definition in kind.fields.items() if not definition.description]
    assert bare == []


def test_names_at_the_doors_are_there() -> None:
    types = schema._schema.type_map
    wanted = {
        "Query": {"viewer", "tenant", "node", "nodes", "series", "breakdown"},
        "Tenant": {"id", "slug", "name", "tier", "limits", "usage", "createdAt", "metric", "metrics", "events"},
        "MetricSeries": {
            "timestamps", "series", "columns", "interval", "from", "to", "source", "freshUntil", "isComplete",
            "rowsRead", "tookMs", "warnings",
        },
        "SeriesFrame": {"kind", "seq", "epoch", "cursor", "watermark", "columns"},
        "Mutation": {"ingestEvents"},
        "Subscription": {"series"},
    }  # fmt: skip
    for name, fields in wanted.items():
        found = types[name]
        assert isinstance(found, GraphQLObjectType)
        assert fields <= found.fields.keys(), name
