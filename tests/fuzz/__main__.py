"""`python -m tests.fuzz`: sends many operations to an instance of its own, and says what came back."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.attacks.cpu import cpu_ms
from tests.conftest import Instance, start_instance
from tests.fuzz.run import Tally, run

TELL_SECONDS = 30.0


async def told(instance: Instance, operations: int, seed: int) -> Tally:
    """A run that says every half a minute how far it is."""
    tally = Tally()
    running = asyncio.create_task(run(instance.url, instance.secret_key, operations=operations, seed=seed, tally=tally))
    while not (await asyncio.wait({running}, timeout=TELL_SECONDS))[0]:
        print(f"{tally.sent} sent, {len(tally.faults)} faults", file=sys.stderr, flush=True)
    return running.result()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        instance = start_instance(Path(folder) / "data", "--empty")
        try:
            web = instance.pid("web")
            tally = asyncio.run(told(instance, given.operations, given.seed))
            spent = cpu_ms(web) / 1000 if instance.pid("web") == web else float("nan")
        finally:
            instance.cli("down")
        logs = "\n".join(log.read_text(errors="replace") for log in (instance.data / "logs").glob("*.log"))
    tracebacks = logs.count("Traceback")
    print(
        f"{tally.sent} operations in {tally.seconds:.0f} s, seed {given.seed}; {spent:.0f} s of the web process's CPU"
    )
    print("statuses:", ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items())))
    print("codes:", ", ".join(f"{code}: {count}" for code, count in tally.codes.most_common()))
    print(f"{len(tally.faults)} faults, {tracebacks} tracebacks")
    for fault in tally.faults[:20]:
        print(fault[:2000], file=sys.stderr)
    return 1 if tally.faults or tracebacks or tally.sent != given.operations else 0


if __name__ == "__main__":
    sys.exit(main())
