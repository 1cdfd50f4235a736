"""`key create|list|revoke|rotate`. A secret is shown once, when it is made."""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import UTC, datetime, timedelta

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts, api_keys
from core.api_keys import KeyRecord
from core.database import Database
from core.key_requests import Grantor, KeyRequest
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
    create.add_argument(
        "--expires", type=datetime.fromisoformat, metavar="TIME", help="when it ends, such as 2027-01-31T00:00:00+00:00"
    )
    revoke = actions.add_parser("revoke", help="end a key; refused within 5 s")
    rotate = actions.add_parser("rotate", help="a second secret; the one before ends after 24 h, an older one at once")
    rotate.add_argument(
        "--overlap-hours", type=int, default=24, metavar="H", help="how long both live, 0 to 168 (default: 24)"
    )
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
        grantor, master_key = Grantor.operator(tenant.id), settings.master_key_bytes()
        if args.action == "list":
            return "\n".join(_line(record) for record in await api_keys.list_keys(database, tenant.id))
        if args.action == "revoke":
            await api_keys.revoke_key(database, tenant.id, args.key_id, grantor.author)
            return f"revoked {args.key_id}"
        if args.action == "rotate":
            overlap = timedelta(hours=min(max(args.overlap_hours, -1), 100_000))
            made = await api_keys.rotate_key(
                database, tenant.id, args.key_id, grantor, master_key=master_key, overlap=overlap
            )
            ends = f"{made.previous_ends_at:%Y-%m-%d %H:%M} UTC"
            return f"key id {made.key_id}\nsecret {made.secret}\nthe secret before it ends at {ends}"
        made = await api_keys.create_key(database, tenant.id, _asked(args), grantor, master_key=master_key)
        return f"key id {made.key_id}\nsecret {made.secret}\nthe secret is not shown again"
    finally:
        await database.close()


def _asked(args: argparse.Namespace) -> KeyRequest:
    scopes = frozenset(Scope(scope) for scope in args.scope or [Scope.EVENTS_WRITE.value])
    return KeyRequest(
        kind=KeyKind(args.kind),
        name=args.name,
        scopes=scopes,
        origins=tuple(args.origin),
        is_unsigned=args.unsigned,
        expires_at=args.expires,
    )


def _line(key: KeyRecord) -> str:
    state = "revoked" if key.revoked_at else "expired" if key.is_expired(datetime.now(UTC)) else "live"
    used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never"
    return f"{key.key_id}  {key.kind.value:12} {state:8} {','.join(sorted(key.scopes)):36} last used {used}  {key.name}"
