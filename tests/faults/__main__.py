"""`python -m tests.faults`: strikes a running installation with faults under load, and counts what is lost or doubled.

One table on standard output, progress on standard error; exit status 1 when anything was lost, duplicated or
unexpected, when a fault did not come about, or when what should have healed did not. The two logs, and with `--jobs`
parts of each, are worked on at the same time, each by a process and an installation of its own.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.campaign import Campaign, Wanted, in_temp_folder, say
from tests.faults.catalogue.all import ALL
from tests.faults.fault import Fault
from tests.faults.rows import Row, RowsFile, in_order
from tests.faults.table import failures, last_line, table

LOGS = ("valkey", "kafka")


def chosen(asked: argparse.Namespace) -> list[tuple[Fault, str]]:
    """The faults that were asked for, each with the log it is run on."""
    wanted = {name.upper() for name in asked.only.split(",") if name}
    unknown = wanted - {fault.id.upper() for fault in ALL}
    if unknown:
        raise SystemExit(f"there is no fault {', '.join(sorted(unknown))}; see --list")
    return [
        (fault, on)
        for fault in ALL
        for on in (fault.is_short if asked.short and not wanted else fault.logs)
        if on in (asked.log or on) and (not wanted or fault.id.upper() in wanted)
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="1", help="equal seeds give equal schedules (default 1)")
    parser.add_argument("--runs", type=int, default=10, help="how often each fault is run (default 10)")
    parser.add_argument("--only", default="", help="these faults, such as F3,F7")
    parser.add_argument("--log", choices=LOGS, help="on this log alone")
    parser.add_argument("--short", action="store_true", help="the run of `make test`: fewer faults, once each")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="how Valkey writes its file")
    parser.add_argument("--jobs", type=int, default=1, help="installations at a time for each log (default 1)")
    parser.add_argument("--out", type=Path, help="folder for rows.jsonl and table.md, written after every run")
    parser.add_argument("--resume", action="store_true", help="go on with the rows in --out: none is run again")
    parser.add_argument("--keep", type=Path, help="keep journals and logs in this folder")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    faults = chosen(asked)
    if asked.list:
        for fault, log in faults:
            print(f"{fault.id:5} {log:7} {fault.name}")
        return 0
    # It tells of every attempt to reach a broker that is away, which is what is meant to be.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("core.kafka").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runs = [Wanted(fault, log, n) for n in range(1 if asked.short else asked.runs) for fault, log in faults]
    with in_temp_folder() as temp:
        out = Path(temp) if asked.out is None else asked.out.resolve()
        out.mkdir(parents=True, exist_ok=True)
        kept = RowsFile(out / "rows.jsonl")
        if kept.read() and not (asked.resume or asked.part):
            raise SystemExit(f"{kept.path} has rows: --resume goes on with them; remove it to begin anew")
        known = {row.key for row in kept.read()}
        wanted = [one for one in runs if (one.fault.id, one.log, asked.seed, one.run) not in known]
        logs = [log for log in LOGS if any(one.log == log for one in wanted)]
        if asked.part or len(logs) * asked.jobs <= 1:
            work(asked, wanted, Path(temp) if asked.keep is None else asked.keep.resolve(), kept)
        else:
            in_parts(asked, logs, out)
        rows = in_order(kept.read(), [fault.id for fault in ALL])
    if not asked.part:
        print(table(rows))
        print(last_line(rows))
    for failure in failures(rows):
        say(failure)
    asked_for = {(one.fault.id, one.log, asked.seed, one.run) for one in runs}
    missing = 0 if asked.part else len(asked_for - {row.key for row in rows})
    if missing:
        say(f"{missing} runs did not come to their end")
    return 0 if not missing and all(row.is_good for row in rows) else 1


def work(asked: argparse.Namespace, wanted: list[Wanted], home: Path, kept: RowsFile) -> None:
    """Does all that is wanted, or this process's part of it, and keeps rows and table up to date."""
    if asked.part:
        number, parts = (int(text) for text in asked.part.split("/"))
        names = [fault.id for fault in ALL]
        wanted = [one for one in wanted if names.index(one.fault.id) % parts == number]
        home = home / f"part-{number}"

    def keep(row: Row) -> None:
        kept.add(row)
        text = table(in_order(kept.read(), [fault.id for fault in ALL]))
        (kept.path.parent / "table.md").write_text(text + "\n", encoding="utf-8")

    Campaign(asked.seed, home, keep, fsync=asked.fsync).run(wanted)


def in_parts(asked: argparse.Namespace, logs: list[str], out: Path) -> None:
    """A process for each log and part, at the same time."""
    options = ["--seed", asked.seed, "--runs", str(asked.runs), "--only", asked.only, "--fsync", asked.fsync]
    options += ["--out", str(out), *(["--short"] if asked.short else [])]
    options += ["--keep", str(asked.keep)] if asked.keep else []
    command = [sys.executable, "-m", "tests.faults", *options]
    parts = [(log, f"{n}/{asked.jobs}") for log in logs for n in range(asked.jobs)]
    running = [subprocess.Popen([*command, "--log", log, "--part", part], cwd=ROOT) for log, part in parts]
    try:
        for process in running:
            process.wait()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
