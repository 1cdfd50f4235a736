"""A short run of operations made from the schema, whole and damaged. The long one: `python -m tests.fuzz`."""

from __future__ import annotations

import asyncio
import random

import pytest
from graphql import parse, validate

from schema.build import schema
from tests.conftest import Instance
from tests.fuzz.damage import damaged
from tests.fuzz.operations import Operations
from tests.fuzz.run import run


def test_operations_fit_the_schema_and_a_seed_makes_them_again() -> None:
    made, again = Operations(schema._schema, 7), Operations(schema._schema, 7)
    bodies = [made.next() for _ in range(300)]
    assert bodies == [again.next() for _ in range(300)]
    fitting = [body for body in bodies if not validate(schema._schema, parse(body["query"]))]
    # Literals and overlaps of a few do not fit; most do, or nothing behind validation is reached.
    assert len(fitting) > 200
    assert len({body["query"] for body in bodies}) > 250


def test_most_damaged_requests_are_others() -> None:
    made = Operations(schema._schema, 7)
    sent = {damaged(made.next(), random.Random(n)).body for n in range(200)}
    assert len(sent) > 190


@pytest.mark.slow
def test_no_operation_is_answered_with_a_fault_of_ours(instance: Instance) -> None:
    tally = asyncio.run(run(instance.url, instance.secret_key, operations=1500, seed=20))
    assert tally.faults == [] and tally.sent == 1500
    assert tally.statuses[200] > 300 and len(tally.codes) > 10
    for log in (instance.data / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name
