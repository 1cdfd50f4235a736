"""Runs faults one after the other under load, and judges each by what its own tenants sent."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.answers import QUESTIONS, span_of
from tests.faults.checker import Kind, Verdict, check, named
from tests.faults.clients import Clients
from tests.faults.disks import mounted, why_no_disk
from tests.faults.fault import DidNotStrike, Fault, Scene
from tests.faults.installation import Installation, Member
from tests.faults.journal import Sent
from tests.faults.stores import Held, ask, read_database, read_hot

WARM_UP_SECONDS = 1.5
FIRST_SECONDS = 60.0
DRAIN_SECONDS = 180.0
# Word of the last change may still be on its way to the hot sets.
SETTLE_SECONDS = 20.0
TENANTS = 2
DISK_MEGABYTES = {"kafka": 300, "postgres": 500, "valkey": 100}


@dataclass(slots=True)
class Outcome:
    """One fault on one log, over all its runs."""

    fault: Fault
    log: str
    runs: int = 0
    acknowledged: int = 0
    recovered: int = 0
    found: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    to_accept: list[float] = field(default_factory=list)
    to_drain: list[float] = field(default_factory=list)
    longest_call: float = 0.0
    # Why it was not run, or what went wrong beside the events.
    not_run: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not any(self.found.values()) and not self.failures


class Campaign:
    """Installations are made when they are first needed, one for each log, and one more for faults of the disk."""

    def __init__(self, seed: str, home: Path, *, fsync: str) -> None:
        self._seed = seed
        self._home = home
        self._fsync = fsync
        self._stack = ExitStack()

    def run(self, faults: list[tuple[Fault, str]], runs: int) -> list[Outcome]:
        """Every fault so many times, each log's faults together."""
        outcomes = []
        for log in ("valkey", "kafka"):
            for is_on_disks in (False, True):
                chosen = [fault for fault, on in faults if on == log and fault.needs_disk is is_on_disks]
                if chosen:
                    outcomes += self._run_on(log, chosen, runs, is_on_disks=is_on_disks)
        return outcomes

    def _run_on(self, log: str, faults: list[Fault], runs: int, *, is_on_disks: bool) -> list[Outcome]:
        if is_on_disks and (reason := why_no_disk(self._home)):
            return [Outcome(fault, log, not_run=reason) for fault in faults]
        with ExitStack() as stack:
            home = self._home / f"{log}{'-disks' if is_on_disks else ''}"
            disks = {}
            if is_on_disks:
                names = ("postgres", "valkey", *(["kafka"] if log == "kafka" else []))
                paths = {name: home / name if name == "kafka" else home / "data" / name for name in names}
                disks = {n: stack.enter_context(mounted(path, DISK_MEGABYTES[n])) for n, path in paths.items()}
            site = Installation(log, home, fsync=self._fsync, disks=disks)
            stack.callback(site.close)
            site.open()
            return [self._run_fault(site, fault, runs) for fault in faults]

    def _run_fault(self, site: Installation, fault: Fault, runs: int) -> Outcome:
        outcome = Outcome(fault, site.log, not_run=fault.why_not())
        for number in range(0 if outcome.not_run else runs):
            name = f"{self._seed}/{site.log}/{fault.id}/{number}"
            say(f"{fault.id} {fault.name} on {site.log}, run {number + 1} of {runs} …")
            folder = self._home / "journals" / name.replace("/", "-")
            folder.mkdir(parents=True)
            try:
                Run(site, fault, outcome, folder, name).go()
            except Exception as error:  # one run that went wrong must not take the others' results with it
                outcome.failures.append(f"{type(error).__name__}: {error}")
                site.renew()
        return outcome


class Run:
    """One fault, once."""

    def __init__(self, site: Installation, fault: Fault, outcome: Outcome, folder: Path, seed: str) -> None:
        self._site = site
        self._fault = fault
        self._outcome = outcome
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
        self._outcome.runs += 1
        for member in self._members:
            self._note(member)
        self._outcome.failures += [
            death for death in self._site.deaths if not death.startswith(self._fault.may_end or ("-",))
        ]
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
            self._outcome.to_accept.append(accepted_at - healed_at)
        time.sleep(1.0)
        self._clients.stop()

    def _drain(self, healed_at: float) -> None:
        if self._site.drain(DRAIN_SECONDS):
            self._outcome.to_drain.append(time.monotonic() - healed_at)
        else:
            self._fail(f"lag is not 0 within {DRAIN_SECONDS:.0f} s of the heal")

    def _note(self, member: Member) -> None:
        outcome, sent = self._outcome, self._clients.sent(member)
        verdict = judge(self._site, member, sent)
        outcome.acknowledged += verdict.acknowledged
        outcome.recovered += verdict.recovered
        outcome.longest_call = max([outcome.longest_call, *(seconds for seconds, _ in sent.calls)])
        for kind in Kind:
            outcome.found[kind] += verdict.number(kind)
        for line in named(member.tenant.id, verdict):
            say(line)

    def _fail(self, what: str) -> None:
        say(f"{self._fault.id}: {what}")
        self._outcome.failures.append(what)


def judge(site: Installation, member: Member, sent: Sent, seconds: float = SETTLE_SECONDS) -> Verdict:
    """The verdict on a tenant's events, once it is good or the time is up."""
    end = time.monotonic() + seconds
    while True:
        verdict = check(sent, hold(site, member, sent))
        if verdict.is_good or time.monotonic() > end:
            return verdict
        time.sleep(1.0)


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
