"""Limits of a document: each is met exactly, and none takes long to find."""

from __future__ import annotations

import time

import pytest
from graphql import OperationDefinitionNode, parse

from core.errors import InvalidRequest
from schema.build import COSTS, schema
from schema.limits import LimitExceeded, check_document, check_variables
from schema.prepare import DocumentCache, DocumentInvalid

DOCUMENTS = DocumentCache(schema._schema, COSTS)
SERIES = 'series(query: {metric: "events", range: {last: "1h"}})'


def cost(text: str, **variables: object) -> int:
    document = parse(text)
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    return check_document(document, operation, variables, COSTS).cost


def nested(depth: int) -> str:
    return "{" + "a{" * (depth - 1) + "a" + "}" * depth


def fragments(count: int, body: str, last: str) -> str:
    chain = " ".join(f"fragment f{n} on Query {{ {body.format(n + 1)} }}" for n in range(count - 1))
    return f"{{ ...f0 }} {chain} fragment f{count - 1} on Query {{ {last} }}"


@pytest.mark.parametrize(
    ("within", "beyond", "code"),
    [
        (nested(8), nested(9), "DEPTH_LIMIT"),
        ("{" + "a: b " * 15 + "}", "{" + "a: b " * 16 + "}", "ALIAS_LIMIT"),
        ("{ a " + "@x " * 50 + "}", "{ a " + "@x " * 51 + "}", "DIRECTIVE_LIMIT"),
        (fragments(20, "...f{}", "a"), fragments(21, "...f{}", "a"), "FRAGMENT_LIMIT"),
        ("{" + "...{a}" * 50 + "}", "{ ...f } fragment f on Query {" + "...f" * 50 + "}", "FRAGMENT_LIMIT"),
        ("{" + "a { b } " * 40 + "c {" + "b " * 40 + "} }", "{ ...f ...f } fragment f on Query {" + "b " * 41 + "}",
         "REPEAT_LIMIT"),
        ("query a {a} " + "query b {a} " * 9, "query a {a} " + "query b {a} " * 10, "OPERATION_LIMIT"),
        ("{ events(first: 100) { a } }", "{ events(first: 101) { a } }", "PAGE_SIZE"),
        ("{ events(first: 1) { a } }", "{ events(first: 0) { a } }", "PAGE_SIZE"),
        ("{ events(first: 1) { a } }", "{ events(first: 99999999999999999999) { a } }", "PAGE_SIZE"),
        # 100 items of 49 objects cost 4,901; of 50, 5,001.
        ("{ events(first: 100) {" + "a{b}" * 49 + "} }", "{ events(first: 100) {" + "a{b}" * 50 + "} }",
         "COMPLEXITY_LIMIT"),
    ],
)  # fmt: skip
def test_a_limit_holds_at_its_number(within: str, beyond: str, code: str) -> None:
    cost(within)
    with pytest.raises(LimitExceeded) as refusal:
        cost(beyond)
    assert refusal.value.code == code
    assert any(character.isdigit() for character in refusal.value.message)


def test_aliases_in_fragments_count_as_often_as_they_are_spread() -> None:
    cost("{ ...f ...f ...f } fragment f on Query { a: b c: d e: f g: h i: j }")
    with pytest.raises(LimitExceeded, match="aliases"):
        cost("{ ...f ...f ...f ...f } fragment f on Query { a: b c: d e: f g: h }")


def test_doubling_fragments_are_measured_in_a_step_each() -> None:
    started = time.perf_counter()
    with pytest.raises(LimitExceeded) as refusal:
        cost(fragments(20, "...f{0} ...f{0}", "a: b"))
    assert refusal.value.code == "ALIAS_LIMIT"
    with pytest.raises(LimitExceeded) as costly:
        cost(fragments(20, "...f{0} ...f{0}", "a { b }"))
    assert costly.value.code == "COMPLEXITY_LIMIT"
    # Expanding them would take half a million steps; this is no timing but the difference of three magnitudes.
    assert time.perf_counter() - started < 1


def test_a_fragment_that_spreads_itself_ends_and_is_left_to_validation() -> None:
    cost("{ ...f } fragment f on Query { a ...g } fragment g on Query { ...f }")
    with pytest.raises(DocumentInvalid):
        DOCUMENTS.prepare("{ ...f } fragment f on Query { ...f }", None, {})


def test_depth_counts_through_fragments_and_inline_fragments() -> None:
    cost("{ a { ...f } } fragment f on Query { a { a { a { a { a { a } } } } } }")
    with pytest.raises(LimitExceeded, match="levels of fields"):
        cost("{ a { a { ...f } } } fragment f on Query { a { a { a { a { a { a { a } } } } } } }")


def test_a_page_size_from_a_variable_is_looked_at() -> None:
    text = "query($n: Int) { events(first: $n) { a { b } } }"
    assert cost(text, n=50) > cost(text, n=5)
    for bad in (101, 0, -5, "50", 5.0):
        with pytest.raises(LimitExceeded):
            cost(text, n=bad)
    assert cost(text, n=None) == cost("{ events { a { b } } }")


def test_typed_points_cost_and_columns_do_not() -> None:
    assert cost(f"{{ {SERIES} {{ columns }} }}") < cost(f"{{ {SERIES} {{ timestamps series {{ values }} }} }}") / 10


def test_introspection_by_tools_passes() -> None:
    from graphql import get_introspection_query  # noqa: PLC0415

    DOCUMENTS.prepare(get_introspection_query(), None, {})


@pytest.mark.parametrize(
    "variables",
    [
        {"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]},
        {"a": list(range(101))},
        {"a": {str(n): {str(m): m for m in range(100)} for n in range(101)}},
    ],
)
def test_variables_are_bounded(variables: dict[str, object]) -> None:
    with pytest.raises(LimitExceeded) as refusal:
        check_variables(variables)
    assert refusal.value.code == "INPUT_LIMIT"


def test_a_document_of_many_tokens_or_levels_is_refused_while_it_is_parsed() -> None:
    for text in ("{" + "a " * 1001 + "}", "{" * 5000, "{a" * 900):
        with pytest.raises((LimitExceeded, DocumentInvalid)):
            DOCUMENTS.prepare(text, None, {})


def test_an_operation_must_be_named_where_there_are_several() -> None:
    text = "query a { __typename } query b { __typename }"
    assert DOCUMENTS.prepare(text, "b", {}).operation_name == "b"
    for name in (None, "c"):
        with pytest.raises(InvalidRequest, match="operationName"):
            DOCUMENTS.prepare(text, name, {})


def test_errors_tell_no_near_names() -> None:
    with pytest.raises(DocumentInvalid) as refusal:
        DOCUMENTS.prepare("{ serie }", None, {})
    assert "Did you mean" not in refusal.value.message


def test_what_a_known_document_costs_follows_its_variables() -> None:
    text = "query ($n: Int) { tenant { events(first: $n) { edges { node { id } } } } }"
    costs = [DOCUMENTS.prepare(text, None, {"n": n}).cost for n in (1, 100, 1)]
    assert costs[0] == costs[2] < costs[1]
    with pytest.raises(LimitExceeded):
        DOCUMENTS.prepare(text, None, {"n": 101})
