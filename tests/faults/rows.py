"""One row a run, kept in a file as a campaign goes: one that is broken off leaves its rows, and can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Row:
    """What came of one run of a fault: events, seconds (None: it did not come to that), and what went wrong beside
    the events. `not_run` says why it was not run at all."""

    fault: str
    log: str
    what: str
    seed: str
    run: int
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    to_accept: float | None = None
    to_drain: float | None = None
    longest_call: float = 0.0
    seconds: float = 0.0
    not_run: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        return (self.fault, self.log, self.seed, self.run)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.failures)


class RowsFile:
    """Rows as lines of JSON; several processes may add to one file, a whole line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        if not self.path.exists():
            return []
        return [Row(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def add(self, row: Row) -> None:
        with open(self.path, "ab", buffering=0) as file:
            file.write(json.dumps(asdict(row)).encode() + b"\n")


def in_order(rows: Iterable[Row], faults: Iterable[str]) -> list[Row]:
    """Rows by log, then fault as the catalogue has them."""
    place = {fault: n for n, fault in enumerate(faults)}
    return sorted(rows, key=lambda row: (row.log != "valkey", place.get(row.fault, len(place)), row.seed, row.run))
