"""`key create|list|revoke|rotate`. A secret is shown once, when it is made."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import Any

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts
from core.accounts import KeyRequest
from core.database import Database
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import KeyKind

SUMMARY = "create, list, revoke and rotate API keys"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and show its secret")
    create.add_argument("--kind", choices=[kind.value for kind in KeyKind], default=KeyKind.SECRET.value)
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument(
        "--scope", action="append", choices=[s.value for s in Scope], help="may be repeated (default: events:write)"
    )
    create.add_argument(
        "--origin", action="append", default=[], help="a page that may use a publishable key; * for all"
    )
    create.add_argument("--unsigned", action="store_true", help="a secret key that may send itself instead of signing")
    revoke = actions.add_parser("revoke", help="end a key; refused within 5 s")
    rotate = actions.add_parser("rotate", help="a second secret; the first ends after 24 h")
    for action in (revoke, rotate):
        action.add_argument("key_id", help="see `key list`")
    listing = actions.add_parser("list", help="a tenant's keys")
    for action in (create, revoke, rotate, listing):
        action.add_argument("--tenant", default="demo", help="slug of the tenant (default: %(default)s)")
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    print(asyncio.run(_act(args, folder.running_settings(os.environ))))
    return 0


async def _act(args: argparse.Namespace, settings: Settings) -> str:
    database = Database(settings, pool_size=1)
    try:
        tenant = await accounts.find_tenant(database, args.tenant)
        master_key = settings.master_key_bytes()
        if args.action == "list":
            return "\n".join(_line(row) for row in await accounts.list_keys(database, tenant))
        if args.action == "revoke":
            await accounts.revoke_key(database, tenant, args.key_id)
            return f"revoked {args.key_id}"
        if args.action == "rotate":
            made = await accounts.rotate_key(database, tenant, args.key_id, master_key=master_key)
            return f"key id {made.key_id}\nsecret {made.secret}\nthe secret before it ends in 24 hours"
        made = await accounts.create_key(database, tenant, _asked(args), master_key=master_key)
        return f"key id {made.key_id}\nsecret {made.secret}\nthe secret is not shown again"
    finally:
        await database.close()


def _asked(args: argparse.Namespace) -> KeyRequest:
    scopes = frozenset(Scope(scope) for scope in args.scope or [Scope.EVENTS_WRITE.value])
    return KeyRequest(
        kind=KeyKind(args.kind), name=args.name, scopes=scopes, origins=tuple(args.origin), is_unsigned=args.unsigned
    )


def _line(row: dict[str, Any]) -> str:
    state = "revoked" if row["revoked_at"] else "live"
    used = row["last_used_at"].isoformat(timespec="minutes") if row["last_used_at"] else "never"
    return f"{row['id']}  {row['kind']:12} {state:8} {','.join(row['scopes']):36} last used {used}  {row['name']}"
