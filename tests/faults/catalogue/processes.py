"""Web and workers: killed at every step, frozen, restarted, driven from partition to partition."""

from __future__ import annotations

import time

from tests.faults.fault import KAFKA, DidNotStrike, Fault, Scene, Strike
from tests.faults.installation import WORKERS

# Passed by then at the latest, with the load there is.
STRIKE_SECONDS = 40.0
# Leases and sessions last 10 s.
GIVEN_AWAY_SECONDS = 12.0


def kill_web(scene: Scene) -> None:
    for _ in range(3):
        scene.site.kill("web")
        time.sleep(scene.dice.uniform(0.0, 0.4))
        scene.site.heal()
        time.sleep(scene.dice.uniform(0.2, 0.8))


def at_step(step: str, *names: str) -> Strike:
    """kill -9 at a random one of the next passes of a step; both workers, whichever of them comes by."""

    def strike(scene: Scene) -> None:
        for name in names:
            scene.site.restart(name, fail_point=f"{step}:{scene.dice.randint(1, 4)}")
        if not scene.site.until_ended(*names, seconds=STRIKE_SECONDS):
            raise DidNotStrike(f"nobody passed {step} within {STRIKE_SECONDS:.0f} s")
        for name in names:
            scene.site.restart(name)

    return strike


def rebalance_storm(scene: Scene) -> None:
    for n in range(6):
        name = WORKERS[n % 2]
        if scene.dice.random() < 0.5:
            scene.site.kill(name)
        else:
            scene.site.stop(name)
        time.sleep(scene.dice.uniform(0.2, 1.0))
        scene.site.start(name)
        time.sleep(scene.dice.uniform(0.5, 2.0))


def zombie_worker(scene: Scene) -> None:
    """One worker freezes within its transaction until its place is given away; then it wakes up and goes on."""
    site = scene.site
    for name in WORKERS:
        site.restart(name, fail_point=f"before_commit:{scene.dice.randint(1, 3)}:stop")
    frozen = site.until_frozen(*WORKERS, seconds=STRIKE_SECONDS)
    if not frozen:
        raise DidNotStrike("nobody came to a commit")
    for name in WORKERS:
        if name not in frozen:
            site.kill(name)
            site.start(name)
    time.sleep(GIVEN_AWAY_SECONDS)
    for name in frozen:
        site.thaw(name)
    time.sleep(2.0)


def frozen_worker(scene: Scene) -> None:
    """One worker, wherever it happens to be, for longer than its leases and sessions."""
    name = scene.dice.choice(WORKERS)
    scene.site.freeze(name)
    time.sleep(GIVEN_AWAY_SECONDS)
    scene.site.thaw(name)


def rolling_restart(scene: Scene) -> None:
    for name in ("web", *WORKERS):
        scene.site.restart(name)
        time.sleep(scene.dice.uniform(0.3, 1.0))


FAULTS = (
    Fault("F1", "kill -9 web under load", kill_web),
    Fault("F2", "kill -9 web after the log's ack, before 202", at_step("after_ack", "web"), is_short=("valkey",)),
    Fault("F3", "kill -9 worker before the commit", at_step("before_commit", *WORKERS), is_short=("valkey",)),
    Fault("F4", "kill -9 worker after the commit, before the log's", at_step("after_commit", *WORKERS), is_short=KAFKA),
    Fault("F5", "kill -9 worker between commit and hot sets", at_step("after_db", *WORKERS)),
    Fault("F5b", "kill -9 bridge before it writes", at_step("before_hot", *WORKERS)),
    Fault("F5c", "kill -9 bridge after it wrote", at_step("after_hot", *WORKERS)),
    Fault("F3b", "kill -9 enrich before it appends", at_step("before_append", *WORKERS)),
    Fault("F3c", "kill -9 enrich after it appended", at_step("after_append", *WORKERS)),
    Fault("F6", "rebalance storm", rebalance_storm),
    Fault("F7", "zombie: frozen within its transaction", zombie_worker),
    Fault("F7b", "worker frozen past its lease or session", frozen_worker),
    Fault("F38", "rolling restart by SIGTERM", rolling_restart),
)
