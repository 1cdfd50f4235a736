"""`deadletters list|show|replay|drop`: records that no worker could process, kept until somebody decides."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts
from core.database import Database
from core.dead_letters import KeptLetter, Place, drop_letter, find_letter, list_letters, replay_letter
from core.log import open_log
from core.settings import Settings

SUMMARY = "records that could not be processed: list, show, replay, drop"
MOST = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="newest first: place, tenant, size, reason")
    listing.add_argument("--limit", type=int, default=50, help="how many (default: %(default)s)")
    show = actions.add_parser("show", help="write a letter's bytes to standard output, as they came")
    replay = actions.add_parser("replay", help="send letters into the log again, once the cause is mended")
    drop = actions.add_parser("drop", help="end letters for good")
    show.add_argument("place", help="worker:topic:partition:offset, see `list`")
    for action in (replay, drop):
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("place", nargs="?", help="worker:topic:partition:offset, see `list`")
        which.add_argument("--all", action="store_true", help=f"all of them, or of --tenant; {MOST:,} a call")
    for action in (listing, replay, drop):
        action.add_argument("--tenant", default="", help="slug: only this tenant's")
    for action in (listing, show, replay, drop):
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    asyncio.run(_act(args, folder.running_settings(os.environ)))
    return 0


async def _act(args: argparse.Namespace, settings: Settings) -> None:
    database = Database(settings, pool_size=1)
    try:
        if args.action == "show":
            letter = await find_letter(database, Place.parse(args.place))
            sys.stdout.buffer.write(letter.value or b"")
        elif args.action == "list":
            await _list(args, database)
        else:
            await _end(args, database, settings)
    finally:
        await database.close()


async def _list(args: argparse.Namespace, database: Database) -> None:
    letters = await _letters(args.tenant, database, max(1, args.limit))
    for letter in letters:
        print(f"{letter.place}  tenant {letter.tenant_id}  {letter.created_at:%Y-%m-%d %H:%M}  {letter.size} bytes")
        print(f"    {letter.reason}")
    print(f"{len(letters)} dead letters" if letters else "no dead letters")


async def _end(args: argparse.Namespace, database: Database, settings: Settings) -> None:
    """Replays or drops; each letter by itself, so that what fails half-way is half done and can be run again."""
    places = [Place.parse(args.place)] if args.place else [x.place for x in await _letters(args.tenant, database, MOST)]
    log = open_log(settings)
    try:
        for place in places:
            if args.action == "replay":
                await replay_letter(database, log, place)
            else:
                await find_letter(database, place)
                await drop_letter(database, place)
    finally:
        await log.close()
    print(f"{'replayed' if args.action == 'replay' else 'dropped'} {len(places)}")


async def _letters(tenant: str, database: Database, most: int) -> list[KeptLetter]:
    owner = (await accounts.find_tenant(database, tenant)).id if tenant else None
    return await list_letters(database, owner, most)
