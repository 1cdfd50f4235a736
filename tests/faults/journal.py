"""A load client's journal: each attempt on disk before the call, its outcome after it. One JSON object a line.

`{"try": batch, "at": s, "events": [...]}` (the events at a batch's first attempt only) and
`{"end": batch, "at": s, "code": n, "taken": [[id, status]...]}`; `code` 0 is no answer. `at` is CLOCK_MONOTONIC, which
all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.traffic import Event, is_good

ACCEPTED = 202
TAKEN = ("accepted", "duplicate")
# Said before anything was taken; every other answer, or none, leaves it open whether the log has the batch.
NOT_TAKEN = (400, 401, 403, 413, 415, 422, 429)


class Journal:
    """The writing side; for several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def attempt(self, batch: int, events: Sequence[Event] | None) -> None:
        self._write({"try": batch, "at": time.monotonic(), **({} if events is None else {"events": events})})

    def outcome(self, batch: int, code: int, taken: Sequence[tuple[str, str]]) -> None:
        self._write({"end": batch, "at": time.monotonic(), "code": code, "taken": taken})

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock, open(self._path, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(slots=True)
class Sent:
    """What clients know of one tenant's events, by id.

    `acknowledged`: the server said it has them. `unknown`: sent, and never told. Neither: refused, and so not to be
    found. `accepted_at` are the moments of 202s, `calls` the seconds each call took with its code, and
    `began_at` when each of them began.
    """

    events: dict[str, Event] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    accepted_at: list[float] = field(default_factory=list)
    calls: list[tuple[float, int]] = field(default_factory=list)
    began_at: list[float] = field(default_factory=list)

    def calls_since(self, moment: float) -> list[tuple[float, int]]:
        """Those of `calls` that began after a moment."""
        return [call for call, began in zip(self.calls, self.began_at, strict=True) if began >= moment]


def read_journals(paths: Iterable[Path]) -> Sent:
    """All journals of one tenant; an attempt without an outcome is unknown."""
    sent = Sent()
    for path in paths:
        _Reading(sent).read(path)
    sent.unknown -= sent.acknowledged
    return sent


class _Reading:
    """One journal being read. An event is unknown while some attempt at it is open."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self._batches: dict[int, list[Event]] = {}
        self._began: dict[int, float] = {}
        self._open: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        # The last line may be half written yet.
        for text in path.read_bytes().rpartition(b"\n")[0].splitlines():
            line = json.loads(text)
            if "try" in line:
                self._attempt(line)
            else:
                self._outcome(line)
        self._sent.unknown |= {event_id for event_id, attempts in self._open.items() if attempts > 0}

    def _attempt(self, line: dict[str, Any]) -> None:
        number = line["try"]
        good = {event["id"]: event for event in self._batches.setdefault(number, line.get("events")) if is_good(event)}
        self._began[number] = line["at"]
        self._sent.events |= good
        self._open.update(good.keys())

    def _outcome(self, line: dict[str, Any]) -> None:
        sent, number = self._sent, line["end"]
        began = self._began.pop(number)
        sent.calls.append((line["at"] - began, line["code"]))
        sent.began_at.append(began)
        if line["code"] == ACCEPTED:
            sent.accepted_at.append(line["at"])
            sent.acknowledged |= {event_id for event_id, status in line["taken"] if status in TAKEN}
        if line["code"] in (ACCEPTED, *NOT_TAKEN):
            self._open.subtract({event["id"] for event in self._batches[number] if is_good(event)})
