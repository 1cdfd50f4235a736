"""What a fault is: a name, the logs it concerns, and a function that strikes and heals."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.clients import Clients
from tests.faults.installation import Installation, Member

BOTH = ("valkey", "kafka")
KAFKA = ("kafka",)


class DidNotStrike(Exception):
    """The fault did not come about, so its run shows nothing."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may touch: the installation under load, its clients, dice, and a tenant without load."""

    site: Installation
    clients: Clients
    dice: random.Random
    bystander: Member
    note: Callable[[str], None]


# Brings the fault about for as long as it lasts, and ends it; whatever is left, `Installation.heal` mends.
Strike = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table. `is_short`: for these logs it is part of the short run. `needs_disk`: the server whose data
    must lie on a disk that can be filled."""

    id: str
    name: str
    strike: Strike
    logs: tuple[str, ...] = BOTH
    is_short: tuple[str, ...] = ()
    needs_disk: bool = False
    # Processes that may end of it by themselves, to be started again (how their deaths begin); no other may.
    may_end: tuple[str, ...] = ()
    # Why it cannot be run on this machine; '' when it can.
    why_not: Callable[[], str] = lambda: ""
