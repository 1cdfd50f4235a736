"""The load clients of one fault's run: a process and a journal a tenant."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.installation import Installation, Member
from tests.faults.journal import ACCEPTED, Journal, Sent, read_journals
from tests.faults.load import Sender
from tests.faults.traffic import Traffic

WAIT_SECONDS = 120.0


@dataclass(slots=True)
class Clients:
    """Started with `start`, several times for more of them; journals are read when all have ended."""

    site: Installation
    folder: Path
    seed: str
    journals: dict[str, list[Path]] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    _accepted_at: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _read_to: Counter[Path] = field(default_factory=Counter)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, member: Member, *options: str) -> None:
        number = len(self._running)
        journal = self.folder / f"journal-{number}.jsonl"
        command = [sys.executable, "-m", "tests.faults.load", self.site.url, str(journal), *options]
        process = subprocess.Popen(
            [*command, "--seed", f"{self.seed}/{number}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin is not None
        process.stdin.write(member.key.encode() + b"\n")
        process.stdin.flush()
        self._running.append(process)
        self.journals.setdefault(member.tenant.slug, []).append(journal)
        if member not in self.members:
            self.members.append(member)

    def send_once(self, member: Member, dice: random.Random) -> None:
        """One batch, from here, until it is clear what became of it."""
        path = self.folder / "journal-once.jsonl"
        sender = Sender(self.site.url, member.key, Journal(path))
        sender.send(0, Traffic(dice, time.time()).batch(), lambda: True)
        sender.close()
        self.journals.setdefault(member.tenant.slug, []).append(path)

    def sent(self, member: Member) -> Sent:
        """What is known of one tenant's events so far."""
        return read_journals(path for path in self.journals[member.tenant.slug] if path.exists())

    def until_accepted(self, since: float, seconds: float) -> float | None:
        """The moment of the first 202 of each tenant after `since`, the latest of them; None when it did not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read_outcomes()
            first = [next((at for at in self._accepted_at[m.tenant.slug] if at >= since), None) for m in self.members]
            if None not in first:
                return max(at for at in first if at is not None)
            time.sleep(0.05)
        return None

    def _read_outcomes(self) -> None:
        """The moments of 202s since it was last asked; whole journals are read once, at the end."""
        for slug, paths in self.journals.items():
            for path in filter(Path.exists, paths):
                with open(path, "rb") as file:
                    file.seek(self._read_to[path])
                    fresh = file.read().rpartition(b"\n")[0]
                self._read_to[path] += len(fresh) + 1 if fresh else 0
                outcomes = [json.loads(line) for line in fresh.splitlines() if line.startswith(b'{"end"')]
                self._accepted_at[slug] += [line["at"] for line in outcomes if line["code"] == ACCEPTED]

    def stop(self) -> None:
        """Lets each finish what it has under way."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._running:
            if process.wait(WAIT_SECONDS) != 0:
                raise RuntimeError(f"a load client ended with {process.returncode}")

    def kill(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()
