"""`python -m tests.faults`: strikes a running installation with faults under load, and counts what is lost or doubled.

One table on standard output, progress on standard error; exit status 1 when anything was lost, duplicated or
unexpected, when a fault did not come about, or when what should have healed did not.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from tests.faults.campaign import Campaign, in_temp_folder, say
from tests.faults.catalogue.all import ALL
from tests.faults.fault import Fault
from tests.faults.table import failures, last_line, table


def chosen(only: str, log: str, *, is_short: bool) -> list[tuple[Fault, str]]:
    """The faults that were asked for, each with the log it is run on."""
    wanted = {name.upper() for name in only.split(",") if name}
    unknown = wanted - {fault.id.upper() for fault in ALL}
    if unknown:
        raise SystemExit(f"there is no fault {', '.join(sorted(unknown))}; see --list")
    return [
        (fault, on)
        for fault in ALL
        for on in (fault.is_short if is_short and not wanted else fault.logs)
        if on in (log or on) and (not wanted or fault.id.upper() in wanted)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="1", help="equal seeds give equal schedules (default 1)")
    parser.add_argument("--runs", type=int, default=10, help="how often each fault is run (default 10)")
    parser.add_argument("--only", default="", help="these faults, such as F3,F7")
    parser.add_argument("--log", choices=("valkey", "kafka"), help="on this log alone")
    parser.add_argument("--short", action="store_true", help="the run of `make test`: fewer faults, once each")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="how Valkey writes its file")
    parser.add_argument("--keep", type=Path, help="keep journals and logs in this folder")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    asked = parser.parse_args()
    faults = chosen(asked.only, asked.log, is_short=asked.short)
    if asked.list:
        for fault, log in faults:
            print(f"{fault.id:5} {log:7} {fault.name}")
        return 0
    # It tells of every attempt to reach a broker that is away, which is what is meant to be.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with in_temp_folder() as temp:
        home = Path(temp) if asked.keep is None else asked.keep.resolve()
        outcomes = Campaign(asked.seed, home, fsync=asked.fsync).run(faults, 1 if asked.short else asked.runs)
    print(table(outcomes))
    for failure in failures(outcomes):
        say(failure)
    print(last_line(outcomes))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
