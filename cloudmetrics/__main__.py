"""`python -m cloudmetrics …`: the operator's commands, each a module of `cloudmetrics.commands`."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from typing import Protocol

from core.errors import CloudMetricsError


class Command(Protocol):
    """What a command's module has."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


# Only the module of the command that runs is imported: `--help` and `status` should not wait for the web.
COMMANDS = {
    "up": "start everything and wait until it answers",
    "down": "stop what `up --detach` started",
    "status": "what runs, where, how much data, how far behind",
    "doctor": "send a probe event through every hop and time each",
    "watch": "follow a metric live, in the terminal",
    "import": "import an access log, or events as lines of JSON",
    "demo": "send generated traffic",
    "tenant": "create, list, spread, export, delete and restore tenants",
    "deadletters": "records that could not be processed: list, show, replay, drop",
    "store": "how events are stored; move them from partitions to TimescaleDB",
    "services": "start Apache Kafka, fetch TimescaleDB and xmlsec1, for trying the larger sizes here",
    "sso": "let people of a tenant sign in by its identity provider",
    "auth": "list and rotate the keys that sign access tokens",
    "member": "invite, list, promote and remove the people of a tenant",
    "outbox": "mail that was not sent yet, with its text and links",
    "key": "create, list, revoke and rotate API keys",
    "audit": "verify the audit trail",
}


def load(name: str) -> Command:
    module = "import_" if name == "import" else name
    return importlib.import_module(f"cloudmetrics.commands.{module}")


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if any("\ud800" <= character <= "\udfff" for argument in arguments for character in argument):
        print("cloudmetrics: an argument is not UTF-8", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m cloudmetrics", description="CloudMetrics, the operator's door.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            load(name).add_arguments(sub)
    args = parser.parse_args(arguments)
    # They tell of every attempt to reach a broker; the command says once what came of it.
    for name in ("aiokafka", "core.kafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return load(args.command).run(args)
    except CloudMetricsError as error:
        print(f"cloudmetrics {args.command}: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        # A folder of somebody else, a full disk, a path that is too long: the system says it best.
        place = f": {error.filename}" if error.filename else ""
        advice = "; run this as the user who owns it" if isinstance(error, PermissionError) else ""
        print(f"cloudmetrics {args.command}: {error.strerror or error}{place}{advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    sys.exit(main())
