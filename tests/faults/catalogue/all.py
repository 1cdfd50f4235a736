"""Every fault, in the order in which they are run; and the last one, which is several others at random."""

from __future__ import annotations

import time

from tests.faults.catalogue import clock, contents, network, processes, servers
from tests.faults.fault import DidNotStrike, Fault, Scene

RANDOM_FAULTS = 4
# What needs its bystander whole, or empties what others need, is not mixed.
_UNMIXED = {"F10", "F12", "F21", "F31", "F32", "F33", "F34"}

_EACH = (*processes.FAULTS, *servers.FAULTS, *network.FAULTS, *contents.FAULTS, *clock.FAULTS)


def nemesis(scene: Scene) -> None:
    """Others of the table at random, some seconds apart."""
    site = scene.site
    fit = [f for f in _EACH if site.log in f.logs and not f.needs_disk and f.id not in _UNMIXED]
    for fault in scene.dice.choices(fit, k=RANDOM_FAULTS):
        try:
            fault.strike(scene)
        except DidNotStrike as reason:
            # One may have kept another from coming about.
            scene.note(f"{fault.id} did not strike: {reason}")
        site.heal()
        time.sleep(scene.dice.uniform(0.5, 2.0))


ALL = (*_EACH, Fault("F42", f"{RANDOM_FAULTS} others at random", nemesis))
