"""Web and workers: killed at every step, frozen, restarted, driven from partition to partition."""

from __future__ import annotations

import time

from tests.faults.fault import KAFKA, DidNotStrike, Fault, Scene, Strike
from tests.faults.installation import WORKERS

# Passed by then at the latest, with the load there is.
STRIKE_SECONDS = 40.0


def kill_web(scene: Scene) -> None:
    for _ in range(4):
        scene.site.kill("web")
        time.sleep(scene.dice.uniform(0.0, 0.4))
        scene.site.start("web")
        time.sleep(scene.dice.uniform(1.0, 2.0))


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
    for n in range(8):
        name = WORKERS[n % 2]
        if scene.dice.random() < 0.5:
            scene.site.kill(name)
        else:
            scene.site.stop(name)
        time.sleep(scene.dice.uniform(0.2, 1.0))
        scene.site.start(name)
        time.sleep(scene.dice.uniform(0.5, 2.5))


def zombie_worker(scene: Scene) -> None:
    """One worker freezes within its transaction until its place is given away; then it wakes up and goes on."""
    for name in WORKERS:
        scene.site.restart(name, fail_point=f"before_commit:{scene.dice.randint(2, 5)}:stop")
    time.sleep(5.0)
    for name in WORKERS[1:]:
        scene.site.kill(name)
        scene.site.start(name)
    time.sleep(20.0)
    scene.site.thaw(WORKERS[0])
    time.sleep(3.0)


def frozen_worker(scene: Scene) -> None:
    """Both workers in turn, wherever they happen to be, for longer than their leases and sessions."""
    for name in WORKERS:
        scene.site.freeze(name)
        time.sleep(14.0)
        scene.site.thaw(name)
        time.sleep(1.0)


def rolling_restart(scene: Scene) -> None:
    for _ in range(2):
        for name in ("web", *WORKERS):
            scene.site.restart(name)
            time.sleep(1.0)


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
