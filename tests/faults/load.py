"""A load client, a process of its own: `python -m tests.faults.load URL FILE --seed N`, its key on standard input,
until standard input ends. It writes each attempt and outcome to FILE, and sends again what got no clear answer, with
the same ids, as an SDK does."""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.journal import ACCEPTED, NOT_TAKEN, Journal
from tests.faults.traffic import Event, Traffic

CALL_SECONDS = 15.0
# How long a batch is sent again, and how long after the end what is still open.
RETRY_SECONDS = 90.0
LAST_SECONDS = 20.0
# Of ten batches one is never sent again: what became of it stays unknown to the client.
GIVE_UP_SHARE = 0.1
TOO_MANY = 429
OWN_FIELDS = {"bad"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code (0: none came), and what became of each event."""

    code: int
    taken: Sequence[tuple[str, str]] = ()
    retry_after: float = 0.2

    @property
    def is_clear(self) -> bool:
        return self.code in (ACCEPTED, *NOT_TAKEN) and self.code != TOO_MANY


class Sender:
    """One connection; one batch after the other."""

    def __init__(self, url: str, key: str, journal: Journal, *, patience: float = CALL_SECONDS) -> None:
        self._address = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._journal = journal
        self._patience = patience
        self._connection: http.client.HTTPConnection | None = None

    def send(self, number: int, events: list[Event], is_worth_it: Callable[[], bool]) -> None:
        """Sends a batch until it is clear what became of it, or no longer worth it."""
        answer = self._attempt(number, events, events)
        while not answer.is_clear and is_worth_it():
            time.sleep(min(answer.retry_after, 1.0))
            answer = self._attempt(number, events, None)

    def _attempt(self, number: int, events: list[Event], noted: list[Event] | None) -> Answer:
        self._journal.attempt(number, noted)
        answer = self._call(events)
        self._journal.outcome(number, answer.code, answer.taken)
        return answer

    def _call(self, events: list[Event]) -> Answer:
        sent = [{name: value for name, value in event.items() if name not in OWN_FIELDS} for event in events]
        try:
            if self._connection is None:
                host, port = str(self._address.hostname), self._address.port
                self._connection = http.client.HTTPConnection(host, port, timeout=self._patience)
            self._connection.request("POST", "/v1/events", json.dumps({"events": sent}), self._headers)
            response = self._connection.getresponse()
            body = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            return Answer(0)
        retry_after = float(response.headers.get("Retry-After", 0.2))
        taken = [(events[result["index"]]["id"], result["status"]) for result in body.get("results", ())]
        return Answer(response.status, taken, retry_after)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Ending:
    """When the client was told to stop."""

    told: threading.Event = field(default_factory=threading.Event)
    at: float = float("inf")

    def tell(self) -> None:
        self.at = time.monotonic()
        self.told.set()

    def is_before(self, end: float) -> bool:
        """Whether a batch that is worth sending until `end` still is."""
        return time.monotonic() < min(end, self.at + LAST_SECONDS)


def run_sender(sender: Sender, traffic: Traffic, numbers: count[int], pause: float, ending: Ending) -> None:
    """Batches with a pause between them, until told to stop; then a little while for the last one."""
    while not ending.told.is_set():
        traffic.now = time.time()
        began = time.monotonic()
        patience = 0.0 if traffic.dice.random() < GIVE_UP_SHARE else RETRY_SECONDS
        sender.send(next(numbers), traffic.batch(), partial(ending.is_before, began + patience))
        ending.told.wait(pause * traffic.dice.uniform(0.5, 1.5))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__)
    parser.add_argument("url", help="where the web process listens")
    parser.add_argument("file", type=Path, help="the journal to write")
    parser.add_argument("--seed", required=True, help="equal seeds send equal batches")
    parser.add_argument("--senders", type=int, default=3, help="connections, one batch at a time each")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between a sender's batches, on average")
    parser.add_argument("--patience", type=float, default=CALL_SECONDS, help="seconds until a call is given up")
    asked = parser.parse_args()
    key = sys.stdin.readline().strip()
    journal, numbers, ending = Journal(asked.file), count(), Ending()
    threads = [
        threading.Thread(
            target=run_sender,
            args=(
                Sender(asked.url, key, journal, patience=asked.patience),
                Traffic(random.Random(f"{asked.seed}/{n}"), time.time()), numbers, asked.pause, ending,
            ),
        )
        for n in range(asked.senders)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ending.tell()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
