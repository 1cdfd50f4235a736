"""An input that is remembered is what Strawberry makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry

from schema.remembered import MAX_LENGTH, remembered


@strawberry.input
class Inner:
    name: str
    size: int | None = 3


@strawberry.input
class Plain:
    inner: Inner
    many: list[Inner] | None
    given: int | None = strawberry.UNSET
    tags: list[str] | None = strawberry.field(default_factory=lambda: ["a"])


@remembered
@strawberry.input
class Remembered:
    inner: Inner
    many: list[Inner] | None
    given: int | None = strawberry.UNSET
    tags: list[str] | None = strawberry.field(default_factory=lambda: ["a"])


SEEN: list[Any] = []


@strawberry.type
class Query:
    @strawberry.field
    def plain(self, of: Plain) -> str:
        return repr(of).removeprefix("Plain")

    @strawberry.field
    def remembered(self, of: Remembered) -> str:
        SEEN.append(of)
        return repr(of).removeprefix("Remembered")


SCHEMA = strawberry.Schema(Query)
DOCUMENT = "query ($a: Plain!, $b: Remembered!) { plain(of: $a) remembered(of: $b) }"


@pytest.mark.parametrize(
    "given",
    [
        {"inner": {"name": "x"}},
        {"inner": {"name": "x", "size": None}, "many": [{"name": "y"}, {"name": "z", "size": 1}]},
        {"inner": {"name": "x"}, "many": None, "given": None, "tags": []},
        {"inner": {"name": "x" * MAX_LENGTH}, "given": 7, "tags": ["b"]},
    ],
)
def test_it_is_the_same_as_without(given: dict[str, Any]) -> None:
    for _ in range(2):
        found = SCHEMA.execute_sync(DOCUMENT, {"a": given, "b": given})
        assert found.errors is None and found.data is not None
        assert found.data["plain"] == found.data["remembered"]


def test_equal_inputs_are_one_object_and_others_are_not() -> None:
    SEEN.clear()
    for name in ("x", "x", "y"):
        given = {"inner": {"name": name}}
        SCHEMA.execute_sync(DOCUMENT, {"a": given, "b": given})
    assert SEEN[0] is SEEN[1] is not SEEN[2]
