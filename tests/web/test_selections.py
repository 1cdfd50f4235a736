"""What is selected of a frame is executed once for all who select the same; and which variables say what that is."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, GraphQLString, get_named_type, parse
from graphql.execution import Executor

from schema.build import schema
from web.selections import Selection, used_below_root

DOCUMENT = """
query Other($o: ID!) { node(id: $o) { id } }
subscription Live($q: MetricQuery!, $resume: String, $skip: Boolean!, $if: Boolean!, $deep: Boolean!) {
  series(query: $q, resumeFrom: $resume) @include(if: $if) { kind seq @skip(if: $skip) ...Rest }
}
fragment Rest on SeriesFrame { cursor @include(if: $deep) }
"""


def test_arguments_of_the_stream_are_no_part_of_what_is_selected_and_directives_are() -> None:
    assert used_below_root(parse(DOCUMENT), "Live") == {"skip", "if", "deep"}


def selection(fields: dict[str, GraphQLField], document: str) -> Selection:
    frame = GraphQLObjectType("Frame", fields)
    of_frame = GraphQLField(frame, resolve=lambda event, _: event)
    root = GraphQLObjectType("Subscription", {"frame": of_frame})
    query = GraphQLObjectType("Query", {"a": GraphQLField(GraphQLString)})
    executor = Executor.build(GraphQLSchema(query, subscription=root), parse(document))
    assert isinstance(executor, Executor)
    return Selection(executor, "request-1")


def test_a_frame_is_executed_once_and_another_anew() -> None:
    asked: list[object] = []

    def name(frame: Any, info: object) -> str:
        asked.append(frame)
        return str(frame["name"])

    found = selection({"name": GraphQLField(GraphQLString, resolve=name)}, "subscription { frame { name } }")
    first, second = {"name": "x"}, {"name": "x"}
    assert found.encoded(first) == found.encoded(first) == b'{"data":{"frame":{"name":"x"}}}}'
    # Equal is not the same: a frame is known by itself.
    found.encoded(second)
    assert asked == [first, second] and asked[1] is second


# What was begun within the refused execution is never waited for.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_field_that_has_to_be_waited_for_is_refused() -> None:
    async def name(frame: object, info: object) -> str:
        return "x"

    found = selection({"name": GraphQLField(GraphQLString, resolve=name)}, "subscription { frame { name } }")
    with pytest.raises(TypeError, match="waited for"):
        found.encoded({})


def test_no_field_of_a_frame_has_to_be_waited_for() -> None:
    root = schema._schema.subscription_type
    assert root is not None
    todo = [get_named_type(field.type) for field in root.fields.values()]
    seen: set[str] = set()
    while todo:
        found = todo.pop()
        if not isinstance(found, GraphQLObjectType) or found.name in seen:
            continue
        seen.add(found.name)
        for name, field in found.fields.items():
            definition = field.extensions["strawberry-definition"]
            assert not definition.is_async, f"{found.name}.{name}"
            todo.append(get_named_type(field.type))
    assert "SeriesFrame" in seen


def test_an_error_that_is_ours_is_masked() -> None:
    found = selection({"name": GraphQLField(GraphQLString)}, "subscription { frame { name } }")
    told = found.encoded_error(ZeroDivisionError("secret"))
    assert b"secret" not in told and b"request-1" in told and told.endswith(b"}}")
