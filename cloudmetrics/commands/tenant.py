"""`tenant create|list|spread|tier`."""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import UTC, datetime

from cloudmetrics import accounts
from cloudmetrics.data_folder import DEFAULT, running_instance
from core.accounts import change_tier, find_tenant, list_tenants, moving_tenants
from core.audit import Author
from core.database import Database
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant, Tier

SUMMARY = "create, list and spread tenants, change their tier"


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
    tier = actions.add_parser(
        "tier", help="change what a tenant pays for: its limits, and how long its events are kept"
    )
    tier.add_argument("slug", help="whose tier")
    tier.add_argument("tier", choices=[tier.value for tier in Tier])
    for action in (create, listing, spread, tier):
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
    for line in asyncio.run(_list(settings)):
        print(line)
    return 0


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
    return f"{tenant.slug:24} {tenant.tier.value:12} {tenant.id}  {tenant.name}"
