"""`import access-log|events`: files through the public ingest door. Run again, it adds nothing that is there."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import uvloop

from cloudmetrics import accounts
from cloudmetrics.client import MAX_SHOWN, Batch, Credentials, Sender, open_sender
from cloudmetrics.data_folder import DEFAULT, running_instance
from cloudmetrics.importing.access_log import Unreadable, event_of, parse_line
from cloudmetrics.importing.identity import LineIds, Sessions
from cloudmetrics.importing.progress import Progress
from cloudmetrics.importing.reading import Line, read_lines, size_of
from core.errors import Misconfigured
from core.events import MAX_BATCH_EVENTS
from core.heap import settle_heap
from core.permissions import Scope
from core.tenancy import KeyKind

SUMMARY = "import an access log, or events as lines of JSON"
MAX_BATCH_BYTES = 900_000

_encoder = msgspec.json.Encoder()
# Turns a line into an event's JSON; raises Unreadable.
Convert = Callable[[Line], bytes]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    log = kinds.add_parser("access-log", help="Apache and nginx logs, common and combined")
    events = kinds.add_parser("events", help="events as lines of JSON")
    for kind, source in ((log, "access-log"), (events, "events")):
        kind.add_argument("files", nargs="+", metavar="FILE", help="plain, .gz, or - for standard input")
        kind.add_argument(
            "--source",
            default=source,
            help="name of the server it is from; part of each event's id (default: %(default)s)",
        )
        kind.add_argument("--data", metavar="DIR", help=f"data folder of a local instance (default: {DEFAULT})")
        kind.add_argument("--url", help="address of an instance elsewhere; needs --key")
        kind.add_argument("--key", help="publishable key, or <key id>:<secret key>")
        kind.add_argument("--tenant", help="slug of the tenant, of a local instance (default: its first)")


@dataclass(slots=True)
class Reading:
    """What was read so far."""

    lines: int = 0
    events: int = 0
    unreadable: int = 0
    complaints: list[str] = field(default_factory=list)

    def complain(self, path: str, line: Line, reason: str) -> None:
        self.unreadable += 1
        if len(self.complaints) < MAX_SHOWN:
            self.complaints.append(f"{path}:{line.number}: {reason}")


def run(args: argparse.Namespace) -> int:
    total = sum(size_of(path) for path in args.files)
    settle_heap()
    return uvloop.run(_import(args, credentials_of(args), total))


def credentials_of(args: argparse.Namespace) -> Credentials:
    """Where to send, from the options.

    Raises:
        Misconfigured: options that do not go together, or nothing runs there.
    """
    if args.url or args.key:
        if not (args.url and args.key) or args.data or args.tenant:
            raise Misconfigured("--url and --key go together, and without --data and --tenant: the key says whose")
        return Credentials.parse(args.url, args.key)
    folder, note = running_instance(args.data or DEFAULT)
    known = folder.read("credentials")
    tenant = args.tenant or known["tenant"]
    if tenant == known["tenant"]:
        return Credentials(note["url"], known["secret_key"], known["secret_key_id"])
    kept = known.setdefault("imports", {})
    if tenant not in kept:
        made = asyncio.run(
            accounts.create_key(
                folder.running_settings(os.environ), tenant=tenant, kind=KeyKind.SECRET, name="imports",
                scopes=frozenset({Scope.EVENTS_WRITE}),
            )
        )  # fmt: skip
        kept[tenant] = {"key_id": made.key_id, "secret": made.secret}
        folder.write("credentials", known)
    return Credentials(note["url"], kept[tenant]["secret"], kept[tenant]["key_id"])


async def _import(args: argparse.Namespace, credentials: Credentials, total: int) -> int:
    reading = Reading()
    convert = _access_log(args.source) if args.kind == "access-log" else _json_lines(args.source)
    started = time.monotonic()
    async with open_sender(credentials) as sender:
        progress = Progress(f"import {args.kind}", total)
        done = 0
        for path in args.files:
            position = 0
            for batch, position in batches(path, convert, reading):
                await sender.send(batch)
                progress.show(done + position, reading.lines)
            done += position
        await sender.finish()
        sent = time.monotonic() - started
        progress.show(total, reading.lines, is_last=True)
        await sender.wait_counted()
        _summarise(reading, sender, sent, time.monotonic() - started - sent)
        return 1 if reading.lines and not sender.tally.accepted + sender.tally.duplicate else 0


def batches(path: str, convert: Convert, reading: Reading) -> Iterator[tuple[Batch, int]]:
    """A file's events, up to 100 together, and where in the file."""
    events: list[msgspec.Raw] = []
    names: list[str] = []
    size = position = 0
    for line in read_lines(path):
        reading.lines += 1
        position = line.position
        try:
            event = convert(line)
        except Unreadable as reason:
            reading.complain(path, line, str(reason))
            continue
        if events and (len(events) == MAX_BATCH_EVENTS or size + len(event) > MAX_BATCH_BYTES):
            yield Batch(events, names), position
            events, names, size = [], [], 0
        events.append(msgspec.Raw(event))
        names.append(f"{path}:{line.number}")
        size += len(event)
    if events:
        yield Batch(events, names), position


def _access_log(source: str) -> Convert:
    ids, sessions = LineIds(source), Sessions()

    def convert(line: Line) -> bytes:
        if line.is_too_long:
            raise Unreadable("the line has more than 64 KiB")
        parsed = parse_line(line.text)
        session = sessions.session_of(parsed.host, parsed.agent, parsed.moment)
        return _encoder.encode(event_of(parsed, event_id=ids.next_id(line.text), session_id=session))

    return convert


def _json_lines(source: str) -> Convert:
    ids = LineIds(source)

    def convert(line: Line) -> bytes:
        if line.is_too_long:
            raise Unreadable("the line has more than 64 KiB; an event has at most 32")
        try:
            event = msgspec.json.decode(line.text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Unreadable(f"not JSON: {error}") from None
        if not isinstance(event, dict):
            raise Unreadable("not an object: a line is one event")
        event_id = ids.next_id(line.text)
        return line.text if event.get("id") is not None else _encoder.encode({**event, "id": event_id})

    return convert


def _summarise(reading: Reading, sender: Sender, sent: float, counted: float) -> None:
    tally = sender.tally
    for complaint in reading.complaints:
        print(f"unreadable  {complaint}", file=sys.stderr)
    for refusal in tally.refusals:
        print(f"rejected  {refusal}", file=sys.stderr)
    print(
        f"{reading.lines:,} lines: {tally.accepted:,} accepted, {tally.duplicate:,} already there, "
        f"{tally.rejected:,} rejected, {reading.unreadable:,} unreadable; "
        f"sent in {sent:.1f} s ({reading.lines / max(sent, 1e-9):,.0f} lines/s), all counted {counted:.1f} s later"
    )
