"""Compares what clients know with what every store holds, after the manner of Jepsen's set-full and total-queue.

lost: acknowledged and absent. duplicated: counted more than once. unexpected: present and never sent, refused, or not
as it was sent. recovered: nobody was told, and it is there; that is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from tests.faults.answers import QUESTIONS, Question
from tests.faults.expected import LENGTHS, Cell, Numbers, expected_cells
from tests.faults.journal import Sent
from tests.faults.stores import Held, StoredCell
from tests.faults.traffic import Event, is_bot, moment_of

# Five standard errors of the sketch, and exact for a handful.
UNIQUES_ERROR = 0.08
EXACT_UNIQUES = 8
OTHER_DIMENSIONS = ("page_path", "referrer_host", "country", "device", "browser", "os")


class Kind(StrEnum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in one place: how many events, and which (an id, or a cell's name)."""

    kind: Kind
    place: str
    what: str
    events: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.events} in {self.place}: {self.what}"


@dataclass(slots=True)
class Verdict:
    """What came of one tenant's events."""

    acknowledged: int
    recovered: int
    findings: list[Finding] = field(default_factory=list)

    def number(self, kind: Kind) -> int:
        """Events of a kind: the most that any one place shows, since each place should show the same."""
        places: Counter[str] = Counter()
        for finding in self.findings:
            if finding.kind is kind:
                places[finding.place] += finding.events
        return max(places.values(), default=0)

    @property
    def is_good(self) -> bool:
        return not self.findings


def check(sent: Sent, held: Held) -> Verdict:
    """Everything that is wrong, place by place."""
    present = {str(row["id"]) for row in held.rows}
    known = {event_id: sent.events[event_id] for event_id in sent.acknowledged | (sent.unknown & present)}
    events = list(known.values())
    findings = [
        *_check_rows(sent, held.rows),
        *(finding for table in LENGTHS for finding in _check_rollup(table, events, held.rollups[table])),
        *_differences("daily_usage", "accepted", len(events), held.usage),
        *(
            found
            for table, count in held.counts.items()
            for found in _differences(table, "accepted", len(events), count)
        ),
        *_check_hot(events, held),
        *(finding for question in QUESTIONS for finding in _check_answer(question, events, held)),
    ]
    return Verdict(len(sent.acknowledged), len(sent.unknown & present), findings)


def _check_rows(sent: Sent, rows: list[dict[str, Any]]) -> Iterable[Finding]:
    counts = Counter(str(row["id"]) for row in rows)
    for event_id in sorted(sent.acknowledged - counts.keys()):
        yield Finding(Kind.LOST, "events", event_id)
    for event_id, count in counts.items():
        if count > 1:
            yield Finding(Kind.DUPLICATED, "events", event_id, count - 1)
    for row in rows:
        event_id = str(row["id"])
        if event_id not in sent.acknowledged | sent.unknown:
            yield Finding(Kind.UNEXPECTED, "events", f"{event_id} was never sent, or refused")
        elif counts[event_id] == 1 and (difference := _difference(sent.events[event_id], row)):
            yield Finding(Kind.UNEXPECTED, "events", f"{event_id} is not as it was sent: {difference}")


def _difference(event: Event, row: dict[str, Any]) -> str:
    properties = event["properties"]
    expected = {
        "ms": round(moment_of(event) * 1000), "type": event["type"], "is_bot": is_bot(event),
        "user_id": event["user_id"], "session_id": event["session_id"], "n": event["id"],
        "status": properties.get("status"), "method": properties.get("method", ""),
        "bytes": properties.get("bytes"), "duration_ms": properties.get("duration_ms"),
    }  # fmt: skip
    return ", ".join(f"{name} {row[name]!r} for {value!r}" for name, value in expected.items() if row[name] != value)


def _differences(place: str, what: str, expected: float, found: float) -> Iterable[Finding]:
    if found < expected:
        yield Finding(Kind.LOST, place, what, round(expected - found))
    elif found > expected:
        yield Finding(Kind.DUPLICATED, place, what, round(found - expected))


def _check_rollup(table: str, events: list[Event], stored: dict[Cell, StoredCell]) -> Iterable[Finding]:
    expected = expected_cells(events, LENGTHS[table])
    for cell, numbers in expected.items():
        yield from _check_cell(f"{table} {cell.dimension or 'total'}", cell, numbers, stored.get(cell))
    dimensions = {"", "status", "method"}
    for cell, found in stored.items():
        if cell.dimension in dimensions and cell not in expected:
            yield Finding(Kind.UNEXPECTED, f"{table} {cell.dimension or 'total'}", _name_of(cell), found.count)
    for dimension in OTHER_DIMENSIONS:
        yield from _check_dimension(f"{table} {dimension}", dimension, expected, stored)


def _check_cell(place: str, cell: Cell, numbers: Numbers, stored: StoredCell | None) -> Iterable[Finding]:
    if stored is None or stored.count != numbers.count:
        yield from _differences(place, _name_of(cell), numbers.count, 0 if stored is None else stored.count)
        return
    for name, value in numbers.sums().items():
        if stored.sums[name] != value:
            yield Finding(Kind.UNEXPECTED, place, f"{_name_of(cell)} {name} {stored.sums[name]} for {value}")
    for name, estimate, exact in (
        ("visitors", stored.users, len(numbers.users)),
        ("sessions", stored.sessions, len(numbers.sessions)),
    ):
        if not is_near(estimate, exact):
            yield Finding(Kind.UNEXPECTED, place, f"{_name_of(cell)} {name} {estimate:.1f} for {exact}")


def is_near(estimate: float, exact: float, error: float = UNIQUES_ERROR) -> bool:
    """Whether a sketch's estimate is within its stated error."""
    return abs(estimate - exact) < (0.5 if exact <= EXACT_UNIQUES else max(1.0, exact * error))


def _check_dimension(
    place: str, dimension: str, expected: dict[Cell, Numbers], stored: dict[Cell, StoredCell]
) -> Iterable[Finding]:
    """The values of a dimension add up to the slot's total."""
    sums: Counter[Any] = Counter()
    for cell, found in stored.items():
        if cell.dimension == dimension:
            sums[cell.slot] += found.count
    totals = {cell.slot: numbers.count for cell, numbers in expected.items() if cell.dimension == ""}
    for slot in totals.keys() | sums.keys():
        yield from _differences(place, _name_of(Cell(slot, dimension, "*")), totals.get(slot, 0), sums[slot])


def _check_hot(events: list[Event], held: Held) -> Iterable[Finding]:
    cells = expected_cells(events, LENGTHS["rollup_1m"])
    totals = {
        cell.slot: (numbers.count, numbers.errors, numbers.bytes)
        for cell, numbers in cells.items()
        if cell.dimension == "" and cell.slot.bucket >= held.hot_since
    }
    for slot in totals.keys() | held.hot.keys():
        expected, found = totals.get(slot, (0, 0, 0)), held.hot.get(slot, (0, 0, 0))
        name = _name_of(Cell(slot, "", ""))
        if expected[0] != found[0]:
            yield from _differences("hot sets", name, expected[0], found[0])
        elif expected != found:
            yield Finding(Kind.UNEXPECTED, "hot sets", f"{name} (count, errors, bytes) {found} for {expected}")


def _check_answer(question: Question, events: list[Event], held: Held) -> Iterable[Finding]:
    place, expected = f"GraphQL {question.name}", question.totals(events)
    found = {
        tuple(line["labels"][name] for name in question.labels): line["total"] or 0
        for line in held.answers.get(question.name, ())
    }
    for labels in expected.keys() | found.keys():
        wanted, got = expected.get(labels, 0), found.get(labels, 0)
        name = " ".join(labels) or "total"
        if question.error or question.is_ratio:
            error = question.error or 1e-9
            if abs(got - wanted) > max(wanted * error, 1e-9 if question.is_ratio else 1.0):
                yield Finding(Kind.UNEXPECTED, place, f"{name}: {got} for {wanted}")
        elif question.is_of_events:
            yield from _differences(place, name, wanted, got)
        elif got != wanted:
            yield Finding(Kind.UNEXPECTED, place, f"{name}: {got} for {wanted}")


def _name_of(cell: Cell) -> str:
    bots = " bots" if cell.slot.is_bot else ""
    return f"{cell.slot.type}{bots} at {cell.slot.bucket} {cell.dimension}={cell.value}".rstrip(" =")


def named(tenant_id: UUID, verdict: Verdict, most: int = 20) -> list[str]:
    """The findings as lines for people, with the tenant they are of."""
    lines = [f"tenant {tenant_id}: {finding}" for finding in verdict.findings[:most]]
    rest = len(verdict.findings) - most
    return [*lines, f"tenant {tenant_id}: and {rest} more"] if rest > 0 else lines
