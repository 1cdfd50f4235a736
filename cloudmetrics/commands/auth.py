"""`auth rotate-key|list-keys`: the keys that sign access tokens."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from datetime import UTC, datetime

from cloudmetrics.data_folder import DEFAULT, running_instance
from core.database import Database
from core.settings import Settings
from core.signing_keys import AHEAD_SECONDS, list_signing_keys, rotate_signing_key, states_of

SUMMARY = "list and rotate the keys that sign access tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    rotate = actions.add_parser("rotate-key", help="publish a new key, which signs later; nobody is signed out")
    rotate.add_argument(
        "--at-once", action="store_true", help="for a stolen key: what the others signed is refused within 5 s"
    )
    listing = actions.add_parser("list-keys", help="all keys and what each does now")
    for action in (rotate, listing):
        action.add_argument("--json", action="store_true", help="print one line of JSON")
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    settings = folder.running_settings(os.environ)
    act = _rotate if args.action == "rotate-key" else _list
    print(asyncio.run(act(args, settings)))
    return 0


async def _rotate(args: argparse.Namespace, settings: Settings) -> str:
    database = Database(settings, pool_size=1)
    try:
        kid = await rotate_signing_key(database, settings.master_key_bytes(), at_once=args.at_once)
    finally:
        await database.close()
    if args.json:
        return json.dumps({"kid": kid, "signs_in_seconds": 0 if args.at_once else AHEAD_SECONDS})
    if args.at_once:
        return f"{kid} signs from now on; tokens of the others are refused within 5 s, and clients refresh theirs"
    return (
        f"{kid} is published, and signs in {AHEAD_SECONDS // 60} minutes; the others verify until their last token ends"
    )


async def _list(args: argparse.Namespace, settings: Settings) -> str:
    database = Database(settings, pool_size=1)
    try:
        keys = await list_signing_keys(database)
    finally:
        await database.close()
    states = states_of(keys, datetime.now(UTC))
    rows = [
        {
            "kid": key.kid,
            "state": states[key.kid],
            "signs_from": key.signs_from.isoformat(timespec="seconds"),
            "verifies_until": key.verifies_until.isoformat(timespec="seconds") if key.verifies_until else None,
        }
        for key in keys
    ]
    if args.json:
        return json.dumps(rows)
    if not rows:
        return "no key yet: the first sign-in makes one"
    return "\n".join(
        f"{row['kid']}  {row['state']:9} signs from {row['signs_from']}  verifies until {row['verifies_until'] or '-'}"
        for row in rows
    )
