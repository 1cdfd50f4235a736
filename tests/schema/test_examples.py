"""Each operation has an example, and each example fits the schema. That they run: tests/resolvers/test_query_counts.py,
and by curl, tests/acceptance/test_examples.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse, validate

from core.errors import Misconfigured
from core.permissions import Role, Scope
from schema.build import schema
from schema.examples import FOLDER, KINDS, Example, answer_named, load_examples, operations_of, shown_by

EXAMPLES = load_examples()


def texts_of(value: Any) -> list[str]:
    """Every text in variables."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_of(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts_of(inner)]
    return [value] if isinstance(value, str) else []


def test_every_operation_has_an_example() -> None:
    missing = operations_of(schema._schema) - shown_by(schema._schema, EXAMPLES).keys()
    assert missing == set(), "write docs/api/examples/<kind>/<name>.graphql for each; docs/api/README.md says how"


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda example: example.name)
def test_an_example_is_one_named_operation_of_its_kind_that_fits_the_schema(example: Example) -> None:
    document = parse(example.document)
    assert validate(schema._schema, document) == []
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode) and operation.name is not None
    assert example.kind == {"query": "queries"}.get(operation.operation.value, f"{operation.operation.value}s")
    assert example.caller in {*map(str, Scope), *map(str, Role), "role admin", "share link"}
    for text in texts_of(example.variables):
        assert answer_named(text) is None or answer_named(text)[0] in EXAMPLES, text  # type: ignore[index]


def test_no_file_lies_beside_the_examples() -> None:
    for file in FOLDER.rglob("*.*"):
        assert file.parent.name in KINDS and file.with_suffix(".graphql").exists(), file
        assert file.suffix in (".graphql", ".json"), file


def test_an_example_without_its_header_is_told(tmp_path: Path) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries/bare.graphql").write_text("# About.\n# as: admin\nquery Bare { __typename }")
    with pytest.raises(Misconfigured, match="statements"):
        load_examples(tmp_path)
