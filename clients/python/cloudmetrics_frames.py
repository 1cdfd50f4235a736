"""Live frames of CloudMetrics, merged: what `series`, `seriesSet` and GET /api/stream/series send. No dependencies.

screen = Screen()
screen.take(frame)           # each frame as it comes; screen.charts[0] is then what a query answers
screen.cursor                # for `resumeFrom`, or Last-Event-ID

for screen in follow("http://127.0.0.1:8000", ["<id of a saved question>"], lambda: "Bearer cm_sk_..."):
    print(screen.charts[0].series)
"""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

READ_SECONDS = 60.0
WAIT_SECONDS = (1.0, 30.0)


@dataclass
class Chart:
    """One question's answer: `series` are objects with labels, values (one a timestamp) and total."""

    timestamps: list[int] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    start: str | None = None
    end: str | None = None
    fault: dict[str, str] | None = None


class Missed(Exception):
    """A frame did not come: open the stream anew with the cursor."""


class Refused(Exception):
    """The server's refusal, with its code; `may_pass`: the same may be answered later."""

    def __init__(self, status: int, error: dict[str, Any], seconds: float = 0.0) -> None:
        super().__init__(error.get("message", ""))
        self.code = error.get("code", "unknown")
        self.seconds = seconds
        self.may_pass = status == 429 or status >= 500 or self.code == "token_expired"


class Screen:
    """Everything that frames say of a stream: one chart a question. `is_stale`: a SNAPSHOT is awaited, at first and
    after a GAP; what is shown until then may lack something."""

    def __init__(self) -> None:
        self.charts: dict[int, Chart] = {}
        self.cursor: str | None = None
        self.watermark: str | None = None
        self.is_stale = True
        self._last: dict[str, Any] | None = None

    def take(self, frame: dict[str, Any]) -> Screen:
        """Takes a frame.

        Raises:
            Missed: one before it did not come.
        """
        last, kind = self._last, frame["kind"]
        is_next = last is None or last["kind"] == "GAP" or last["epoch"] != frame["epoch"]
        is_next = is_next or (last is not None and frame["seq"] == last["seq"] + 1)
        if not is_next and kind not in ("GAP", "SNAPSHOT"):
            raise Missed(f"After frame {last and last['seq']} came {frame['seq']}")
        self._last, self.cursor = frame, frame["cursor"]
        self.watermark = frame.get("watermark") or self.watermark
        self.is_stale = kind == "GAP" or (self.is_stale and kind != "SNAPSHOT")
        for change in changes_of(frame):
            before = Chart() if kind == "SNAPSHOT" else self.charts.get(change["index"], Chart())
            self.charts[change["index"]] = merged(before, change)
        return self


def changes_of(frame: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """A frame of `series` has its columns itself; one of a set has them by question."""
    if "changes" in frame:
        found: list[dict[str, Any]] = frame["changes"]
        return found
    if frame["kind"] in ("GAP", "HEARTBEAT"):
        return []
    return [{"index": 0, **{name: frame.get(name) for name in ("columns", "from", "to")}}]


def merged(before: Chart, change: dict[str, Any]) -> Chart:
    """A chart after a change: its series are those of the change, in its order; buckets before `from` are gone."""
    if change.get("fault"):
        return Chart(before.timestamps, before.series, before.start, before.end, change["fault"])
    columns = change["columns"]
    first = _milliseconds(change.get("from"))
    kept = [(stamp, n) for n, stamp in enumerate(before.timestamps) if stamp >= first]
    stamps = sorted({stamp for stamp, _ in kept} | set(columns["timestamps"]))
    old = {_name_of(line): line for line in before.series}
    lines = []
    for line in columns["series"]:
        known = old.get(_name_of(line))
        values = {stamp: known["values"][n] for stamp, n in kept} if known else {}
        values.update(zip(columns["timestamps"], line["values"], strict=True))
        lines.append({**line, "values": [values.get(stamp) for stamp in stamps]})
    return Chart(stamps, lines, change.get("from"), change.get("to"))


def follow(url: str, questions: Sequence[str], authorization: Callable[[], str]) -> Iterator[Screen]:
    """Saved questions over GET /api/stream/series for ever, after each frame; comes back after a cut where it was.
    `authorization` gives the header anew each time, as tokens expire.

    Raises:
        Refused: coming back would not help.
    """
    screen, wait = Screen(), WAIT_SECONDS[0]
    address = f"{url.rstrip('/')}/api/stream/series?" + urlencode([("question", id) for id in questions])
    while True:
        try:
            for event, data in _events(address, authorization(), screen.cursor):
                if event == "refused":
                    raise Refused(401, data["error"])
                if event != "message":
                    break
                yield screen.take(data)
                wait = WAIT_SECONDS[0]
        except Refused as refusal:
            if not refusal.may_pass:
                raise
            wait = refusal.seconds or wait
        except (OSError, Missed):
            pass
        # Not all at once: a server that comes back has many to serve.
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(wait * 2, WAIT_SECONDS[1])


def _events(address: str, authorization: str, cursor: str | None) -> Iterator[tuple[str, Any]]:
    headers = {"Authorization": authorization, **({"Last-Event-ID": cursor} if cursor else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=READ_SECONDS) as answer:
            event, data = "message", ""
            for raw in answer:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data += value
                elif not name and data:
                    yield event, json.loads(data)
                    event, data = "message", ""
    except urllib.error.HTTPError as error:
        body = error.read()
        known = json.loads(body)["error"] if body.startswith(b'{"error"') else {}
        raise Refused(error.code, known, float(error.headers.get("Retry-After") or 0)) from None


def _name_of(line: dict[str, Any]) -> str:
    return json.dumps(line["labels"], sort_keys=True)


def _milliseconds(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000 if text else float("-inf")
