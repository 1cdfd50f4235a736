"""`audit verify`: whether anybody changed, removed or put in an entry of the audit trail."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping

from cloudmetrics.data_folder import DEFAULT, running_instance
from core.accounts import find_tenant, list_tenants
from core.audit_chain import Head
from core.audit_trail import Verdict, verify
from core.database import Database
from core.errors import BadInput
from core.settings import Settings
from core.tenancy import Tenant

SUMMARY = "verify the audit trail"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checking = actions.add_parser("verify", help="read every entry; exit 1 when one was changed, is missing or put in")
    checking.description = (
        "Reads the whole chain of each tenant and names every entry that was changed, is missing, or was put in. "
        "It prints where each chain ends: keep that elsewhere, and give it to a later run as --anchor, which then "
        "finds even a trail that was rewritten from its beginning."
    )
    checking.add_argument("--tenant", default="", help="slug: only this tenant's")
    checking.add_argument("--anchor", default="", metavar="N:HASH", help="an end printed before; needs --tenant")
    checking.add_argument("--json", action="store_true", help="a line of JSON for each tenant")
    checking.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    anchor = anchor_of(args.anchor, has_tenant=bool(args.tenant))
    folder, _ = running_instance(args.data)
    return asyncio.run(_verify(folder.running_settings(os.environ), args.tenant, anchor, is_json=args.json))


def anchor_of(text: str, *, has_tenant: bool) -> Head | None:
    """The end of a chain as `verify` printed it.

    Raises:
        BadInput: not of that form, or of no one tenant.
    """
    if not text:
        return None
    number, _, digest = text.partition(":")
    try:
        head = Head(int(number), bytes.fromhex(digest))
    except ValueError:
        head = Head(0, b"")
    if not has_tenant or head.sequence < 1 or len(head.hash) != 32:
        raise BadInput("--anchor takes NUMBER:HASH as `audit verify` prints it, together with --tenant.")
    return head


async def _verify(settings: Settings, slug: str, anchor: Head | None, *, is_json: bool) -> int:
    database = Database(settings, pool_size=2)
    is_whole = True
    try:
        async for tenant in _tenants(database, slug):
            verdict = await verify(database, tenant.id, anchor)
            is_whole &= not verdict.findings
            print(json.dumps(as_json(tenant, verdict)) if is_json else as_text(tenant, verdict), flush=True)
    finally:
        await database.close()
    return 0 if is_whole else 1


async def _tenants(database: Database, slug: str) -> AsyncIterator[Tenant]:
    for tenant in [await find_tenant(database, slug)] if slug else await list_tenants(database):
        yield tenant


def as_json(tenant: Tenant, verdict: Verdict) -> Mapping[str, object]:
    """A verdict for programs."""
    head = verdict.head
    return {
        "tenant": tenant.slug,
        "entries": verdict.entries,
        "end": f"{head.sequence}:{head.hash.hex()}" if head else None,
        "findings": [
            {
                "wrong": finding.wrong.value,
                "first": finding.first,
                "last": finding.last,
                "id": str(finding.entry_id) if finding.entry_id else None,
                "message": finding.message,
            }
            for finding in verdict.findings
        ],
    }


def as_text(tenant: Tenant, verdict: Verdict) -> str:
    """A verdict for people."""
    head = verdict.head
    end = f"; ends at {head.sequence}:{head.hash.hex()}" if head else ""
    lines = [f"{tenant.slug}: {verdict.entries} entries, {'NOT whole' if verdict.findings else 'whole'}{end}"]
    lines += [f"    {f.message}{f' (id {f.entry_id})' if f.entry_id else ''}" for f in verdict.findings]
    return "\n".join(lines)
