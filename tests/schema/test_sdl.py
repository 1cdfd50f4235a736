"""The published schema."""

from __future__ import annotations

from pathlib import Path

from graphql import (
    GraphQLObjectType,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_object_type,
    is_scalar_type,
    is_specified_scalar_type,
)

from schema.build import schema

SDL = Path(__file__).resolve().parent.parent.parent / "schema/schema.graphql"


def test_the_committed_schema_is_current() -> None:
    assert SDL.read_text().strip() == schema.as_str().strip(), "run make schema"


KINDS = {name: kind for name, kind in schema._schema.type_map.items() if not name.startswith("__")}


def test_every_type_field_argument_and_value_is_described() -> None:
    bare = []
    for name, kind in KINDS.items():
        if not kind.description and not is_specified_scalar_type(kind):
            bare.append(name)
        if is_object_type(kind) or is_interface_type(kind) or is_input_object_type(kind):
            bare += [f"{name}.{field}" for field, definition in kind.fields.items() if not definition.description]
        if is_object_type(kind) or is_interface_type(kind):
            bare += [
                f"{name}.{field}({argument})"
                for field, definition in kind.fields.items()
                for argument, given in definition.args.items()
                if not given.description
            ]
        if is_enum_type(kind):
            bare += [f"{name}.{value}" for value, definition in kind.values.items() if not definition.description]
    assert bare == [], "describe them where they are declared (schema/described.py: enum_of, ARGUMENTS)"


def test_every_scalar_of_ours_says_where_it_is_specified() -> None:
    scalars = {
        kind.name: kind for kind in KINDS.values() if is_scalar_type(kind) and not is_specified_scalar_type(kind)
    }
    assert {"DateTime", "Columns", "JSON"} <= scalars.keys()
    assert [name for name, kind in scalars.items() if not (kind.specified_by_url or "").startswith("https://")] == []


def test_what_is_deprecated_says_what_to_use() -> None:
    for name, kind in KINDS.items():
        values = [*getattr(kind, "fields", {}).items(), *getattr(kind, "values", {}).items()]
        for member, definition in values:
            reason = definition.deprecation_reason
            assert reason is None or len(reason) > len("No longer supported"), f"{name}.{member}"


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
