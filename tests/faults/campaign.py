"""Runs faults one after the other under load, and judges each by what its own tenants sent."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.answers import QUESTIONS, span_of
from tests.faults.checker import Kind, Verdict, check, named
from tests.faults.clients import Clients
from tests.faults.disks import mounted, why_no_disk
from tests.faults.fault import DidNotStrike, Fault, Scene
from tests.faults.installation import Installation, Member
from tests.faults.journal import Sent
from tests.faults.rows import Row
from tests.faults.stores import Held, ask, read_database, read_hot

WARM_UP_SECONDS = 0.7
# Load goes on for so long after the first 202.
AFTER_SECONDS = 0.5
FIRST_SECONDS = 60.0
DRAIN_SECONDS = 180.0
# Word of the last change may still be on its way to the hot sets.
SETTLE_SECONDS = 20.0
JUDGE_SECONDS = 0.3
TENANTS = 2
# A hundred runs on one installation take ten times as long a run as the first.
RUNS_AN_INSTALLATION = 25
DISK_MEGABYTES = {"kafka": 300, "postgres": 500, "valkey": 100}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run that is asked for, counted from 0."""

    fault: Fault
    log: str
    run: int


class Progress:
    """Says how far a campaign is, and how long it may take at the pace so far."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = time.monotonic()

    def say_next(self, what: str) -> None:
        elapsed = time.monotonic() - self._began
        rest = f", about {elapsed / self._done * (self._total - self._done) / 60:.0f} min left" if self._done else ""
        say(f"{what}; {self._done} of {self._total} runs in {elapsed / 60:.1f} min{rest}")

    def note_done(self) -> None:
        self._done += 1


class Campaign:
    """Installations are made when they are first needed, one for each log, and one more for faults of the disk; after
    some runs another takes its place, since each run leaves tenants and topics behind."""

    def __init__(self, seed: str, home: Path, keep: Callable[[Row], None], *, fsync: str) -> None:
        self._seed = seed
        self._home = home
        self._keep = keep
        self._fsync = fsync

    def run(self, wanted: list[Wanted]) -> None:
        """Every run that is wanted, each log's together; a row of each is handed over when it is done."""
        progress = Progress(len(wanted))
        for log in ("valkey", "kafka"):
            for is_on_disks in (False, True):
                chosen = [one for one in wanted if one.log == log and one.fault.needs_disk is is_on_disks]
                if chosen:
                    self._run_on(log, chosen, progress, is_on_disks=is_on_disks)

    def _run_on(self, log: str, wanted: list[Wanted], progress: Progress, *, is_on_disks: bool) -> None:
        if is_on_disks and (reason := why_no_disk(self._home)):
            for one in wanted:
                self._keep(dataclasses.replace(self._row(one), not_run=reason))
            return
        for number, start in enumerate(range(0, len(wanted), RUNS_AN_INSTALLATION)):
            home = self._home / f"{log}{'-disks' if is_on_disks else ''}{number or ''}"
            part = wanted[start : start + RUNS_AN_INSTALLATION]
            self._run_part(log, home, part, progress, is_on_disks=is_on_disks)

    def _run_part(self, log: str, home: Path, wanted: list[Wanted], progress: Progress, *, is_on_disks: bool) -> None:
        with ExitStack() as stack:
            disks = {}
            if is_on_disks:
                names = ("postgres", "valkey", *(["kafka"] if log == "kafka" else []))
                paths = {name: home / name if name == "kafka" else home / "data" / name for name in names}
                disks = {n: stack.enter_context(mounted(path, DISK_MEGABYTES[n])) for n, path in paths.items()}
            site = Installation(log, home, fsync=self._fsync, disks=disks)
            stack.callback(site.close)
            site.open()
            for one in wanted:
                progress.say_next(f"{log}: {one.fault.id} {one.fault.name}, run {one.run + 1}")
                self._keep(self._run_once(site, one))
                progress.note_done()

    def _row(self, one: Wanted) -> Row:
        return Row(one.fault.id, one.log, one.fault.name, self._seed, one.run)

    def _run_once(self, site: Installation, one: Wanted) -> Row:
        row, began = self._row(one), time.monotonic()
        row.not_run = one.fault.why_not()
        if row.not_run:
            return row
        name = f"{self._seed}/{one.log}/{one.fault.id}/{one.run}"
        folder = self._home / "journals" / name.replace("/", "-")
        folder.mkdir(parents=True)
        try:
            Run(site, one.fault, row, folder, name).go()
        except Exception as error:  # one run that went wrong must not take the others' results with it
            row.failures.append(f"{type(error).__name__}: {error}")
            site.renew()
        row.seconds = time.monotonic() - began
        return row


class Run:
    """One fault, once."""

    def __init__(self, site: Installation, fault: Fault, row: Row, folder: Path, seed: str) -> None:
        self._site = site
        self._fault = fault
        self._row = row
        self._members = [site.new_member() for _ in range(TENANTS)]
        self._clients = Clients(site, folder, seed)
        self._scene = Scene(site, self._clients, random.Random(seed), site.new_member(), say)

    def go(self) -> None:
        try:
            for member in self._members:
                self._clients.start(member)
            self._clients.until_accepted(0.0, FIRST_SECONDS)
            time.sleep(WARM_UP_SECONDS)
            self._strike()
            healed_at = time.monotonic()
            self._clients_end(healed_at)
            self._drain(healed_at)
        finally:
            self._clients.kill()
        for member in self._clients.members:
            self._note(member)
        for death in self._site.deaths:
            if not death.startswith(self._fault.may_end or ("-",)):
                self._fail(death)
        self._site.deaths.clear()

    def _strike(self) -> None:
        try:
            self._fault.strike(self._scene)
        except DidNotStrike as reason:
            self._fail(f"did not strike: {reason}")
        self._site.heal()

    def _clients_end(self, healed_at: float) -> None:
        accepted_at = self._clients.until_accepted(healed_at, FIRST_SECONDS)
        if accepted_at is None:
            self._fail(f"no 202 within {FIRST_SECONDS:.0f} s of the heal")
        else:
            self._row.to_accept = accepted_at - healed_at
        time.sleep(AFTER_SECONDS)
        self._clients.stop()

    def _drain(self, healed_at: float) -> None:
        if self._site.drain(DRAIN_SECONDS):
            self._row.to_drain = time.monotonic() - healed_at
        else:
            self._fail(f"lag is not 0 within {DRAIN_SECONDS:.0f} s of the heal")

    def _note(self, member: Member) -> None:
        row, sent = self._row, self._clients.sent(member)
        verdict = judge(self._site, member, sent)
        row.acknowledged += verdict.acknowledged
        row.recovered += verdict.recovered
        row.longest_call = max([row.longest_call, *(seconds for seconds, _ in sent.calls)])
        row.lost += verdict.number(Kind.LOST)
        row.duplicated += verdict.number(Kind.DUPLICATED)
        row.unexpected += verdict.number(Kind.UNEXPECTED)
        for line in named(member.tenant.id, verdict):
            say(line)

    def _fail(self, what: str) -> None:
        say(f"{self._fault.id} on {self._site.log}: {what}")
        self._row.failures.append(what)


def judge(site: Installation, member: Member, sent: Sent, seconds: float = SETTLE_SECONDS) -> Verdict:
    """The verdict on a tenant's events, once it is good or the time is up."""
    end = time.monotonic() + seconds
    while True:
        verdict = check(sent, hold(site, member, sent))
        if verdict.is_good or time.monotonic() > end:
            return verdict
        time.sleep(JUDGE_SECONDS)


def hold(site: Installation, member: Member, sent: Sent) -> Held:
    """What all stores and the GraphQL door have of a tenant."""
    held = Held()
    events = list(sent.events.values())
    asyncio.run(read_database(site.folder, member.tenant.id, held))
    asyncio.run(read_hot(site.direct.redis_url, member.tenant.id, {event["type"] for event in events}, held))
    if events:
        span = {"range": span_of(events), "interval": "HOUR", "limit": 100}
        for question in QUESTIONS:
            held.answers[question.name] = ask(site.url, member.key, {**question.asked, **span})
    return held


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def in_temp_folder() -> TemporaryDirectory[str]:
    """Where everything of a campaign lies; its path is short enough for sockets."""
    return TemporaryDirectory(prefix="cm-faults-", ignore_cleanup_errors=True)
