"""`tenant create|list|spread`."""

from __future__ import annotations

import argparse
import asyncio
import os

from cloudmetrics import accounts
from cloudmetrics.data_folder import DEFAULT, running_instance
from core.accounts import list_tenants
from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant, Tier

SUMMARY = "create, list and spread tenants"


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
    for action in (create, listing, spread):
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
    for tenant in asyncio.run(_list(settings)):
        print(_line(tenant))
    return 0


async def _list(settings: Settings) -> list[Tenant]:
    database = Database(settings, pool_size=1)
    try:
        return await list_tenants(database)
    finally:
        await database.close()


def _line(tenant: Tenant) -> str:
    return f"{tenant.slug:24} {tenant.tier.value:12} {tenant.id}  {tenant.name}"
