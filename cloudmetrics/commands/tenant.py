"""`tenant create|list|spread|tier|export|delete|restore|deleted`."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from datetime import UTC, datetime, timedelta

from cloudmetrics import accounts, tenant_ends
from cloudmetrics.data_folder import DEFAULT, running_instance
from core.accounts import change_tier, find_tenant, list_tenants, moving_tenants
from core.audit import Author
from core.database import Database
from core.errors import BadInput
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.tenant_ends import Erasure, find_erasures, list_erasures

SUMMARY = "create, list and spread tenants, change their tier, export, delete and restore them"
MAX_GRACE_DAYS = 366


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a tenant and its topic")
    create.add_argument("slug", help="its name in addresses: a-z, 0-9, hyphens")
    create.add_argument("--name", default="", help="its name for people (default: the slug)")
    create.add_argument("--tier", choices=[tier.value for tier in Tier], default=Tier.SELF_HOSTED.value)
    listing = actions.add_parser("list", help="all tenants")
    spread = actions.add_parser("spread", help="let several workers count a large tenant at once")
    spread.add_argument("slug", help="whose records")
    spread.add_argument("sub_keys", type=int, metavar="N", help="over so many partitions; 1 takes it back")
    export = actions.add_parser("export", help="write everything of a tenant into a file, and wait for it")
    export.add_argument("slug", help="whose")
    export.add_argument("--no-events", action="store_true", help="without the raw events, which are the most of it")
    delete = actions.add_parser("delete", help="refuse its keys and sessions now, remove everything after a grace")
    delete.add_argument("slug", help="which")
    delete.add_argument("--confirm", required=True, metavar="SLUG", help="the slug again: there is no way back later")
    delete.add_argument("--grace-days", type=float, metavar="N", help="0: at once (default: DELETION_GRACE_DAYS)")
    delete.add_argument("--wait", action="store_true", help="until it is gone, and print the proof")
    restore = actions.add_parser("restore", help="keep a tenant that is to be deleted, while nothing of it has gone")
    restore.add_argument("slug", help="which")
    deleted = actions.add_parser("deleted", help="the proofs of tenants that are gone: what was removed, what is left")
    deleted.add_argument("slug", nargs="?", help="which (default: all)")
    deleted.add_argument("--json", action="store_true", help="a line of JSON for each")
    tier = actions.add_parser(
        "tier", help="change what a tenant pays for: its limits, and how long its events are kept"
    )
    tier.add_argument("slug", help="whose tier")
    tier.add_argument("tier", choices=[tier.value for tier in Tier])
    for action in (create, listing, spread, tier, export, delete, restore, deleted):
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    settings = folder.running_settings(os.environ)
    if args.action == "create":
        made = accounts.create_tenant(settings, slug=args.slug, name=args.name, tier=Tier(args.tier))
        print(_line(asyncio.run(made)))
        return 0
    if args.action == "spread":
        asyncio.run(accounts.spread_tenant(settings, slug=args.slug, sub_keys=args.sub_keys))
        print(f"spread {args.slug} over {args.sub_keys}; the workers know within 10 s")
        if args.sub_keys > settings.log_partitions:
            most = settings.log_partitions
            print(f"LOG_PARTITIONS is {most}: so at most {most} workers share it, unless its topics have more")
        return 0
    if args.action == "tier":
        print(asyncio.run(_change_tier(settings, args.slug, Tier(args.tier))))
        return 0
    if args.action == "list":
        for line in asyncio.run(_list(settings)):
            print(line)
        return 0
    return _end(args, settings)


def _end(args: argparse.Namespace, settings: Settings) -> int:
    """Exports, and what there is to the end of a tenant."""
    if args.action == "export":
        file = tenant_ends.export(settings, slug=args.slug, include_events=not args.no_events, say=_say)
        print(asyncio.run(file))
    elif args.action == "restore":
        asyncio.run(tenant_ends.take_back(settings, slug=args.slug))
        print(f"{args.slug} stays; its keys and sessions work again within 5 s")
    elif args.action == "deleted":
        for erasure in asyncio.run(_proofs(settings, args.slug)):
            is_json = args.json
            print(json.dumps(dataclasses.asdict(erasure), default=str) if is_json else tenant_ends.as_text(erasure))
    else:
        _delete(args, settings)
    return 0


def _delete(args: argparse.Namespace, settings: Settings) -> None:
    days = settings.deletion_grace_days if args.grace_days is None else args.grace_days
    if not 0 <= days <= MAX_GRACE_DAYS:
        raise BadInput(f"--grace-days takes 0 to {MAX_GRACE_DAYS}, not {days}.")
    asked = tenant_ends.delete(settings, slug=args.slug, typed=args.confirm, grace=timedelta(days=days))
    job = asyncio.run(asked)
    when = f"{job.begins_at:%Y-%m-%d %H:%M} UTC"
    print(f"{args.slug}: keys and sessions are refused within 5 s; everything goes from {when} on")
    if args.wait:
        print(tenant_ends.as_text(asyncio.run(tenant_ends.wait_until_deleted(settings, job, _say))))
    else:
        print(f"until then: tenant restore {args.slug}; afterwards: tenant deleted {args.slug}")


async def _proofs(settings: Settings, slug: str | None) -> list[Erasure]:
    database = Database(settings, pool_size=1)
    try:
        return await find_erasures(database, slug) if slug else await list_erasures(database, None)
    finally:
        await database.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _list(settings: Settings) -> list[str]:
    database = Database(settings, pool_size=1)
    try:
        moving = await moving_tenants(database)
        return [
            _line(tenant) + ("  (its events move to this tier)" if tenant.slug in moving else "")
            for tenant in await list_tenants(database)
        ]
    finally:
        await database.close()


async def _change_tier(settings: Settings, slug: str, tier: Tier) -> str:
    database = Database(settings, pool_size=1)
    try:
        tenant = await find_tenant(database, slug)
        await change_tier(database, tenant, tier, Author.operator(tenant.id))
    finally:
        await database.close()
    since = Retention.of(settings)[tier].since(None, datetime.now(UTC))
    kept = "all of its events are kept" if since is None else f"its events before {since:%Y-%m-%d} are dropped"
    return f"{slug}: {tenant.tier.value} -> {tier.value}; known within 5 s; {kept}, the others move in the background"


def _line(tenant: Tenant) -> str:
    ending = f"  (to be deleted from {tenant.ends_at:%Y-%m-%d %H:%M} UTC on)" if tenant.ends_at else ""
    return f"{tenant.slug:24} {tenant.tier.value:12} {tenant.id}  {tenant.name}{ending}"
