"""`outbox`: mail that waits or was given up, with its text, for the operator without a mail server to hand over."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts
from core.database import Database
from core.outbox import MessageState, OutboxMessage, list_messages
from core.settings import Settings

SUMMARY = "mail that was not sent yet, with its text and links"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also what was sent; its text and links are gone by then")
    parser.add_argument("--limit", type=int, default=50, help="how many, newest first (default: %(default)s)")
    parser.add_argument("--tenant", default="", help="slug: only this tenant's")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    settings = folder.running_settings(os.environ)
    messages = asyncio.run(_list(args, settings))
    if args.json:
        print(json.dumps([_shown(message) for message in messages]))
        return 0
    for message in messages:
        print(_block(message))
    print(f"{len(messages)} messages" if messages else "no mail waits")
    return 0


async def _list(args: argparse.Namespace, settings: Settings) -> list[OutboxMessage]:
    database = Database(settings, pool_size=1)
    try:
        tenant_id = (await accounts.find_tenant(database, args.tenant)).id if args.tenant else None
        most = min(max(1, args.limit), 10_000)
        return await list_messages(
            database, settings.master_key_bytes(), tenant_id=tenant_id, has_all=args.all, most=most
        )
    finally:
        await database.close()


def _block(message: OutboxMessage) -> str:
    tenant = f", tenant {message.tenant}" if message.tenant else ""
    head = f"{message.state.value.replace('_', ' ')}  {message.kind.value} to {message.recipient}{tenant}"
    lines = [f"{head}  {message.created_at:%Y-%m-%d %H:%M} UTC"]
    if message.last_error:
        lines.append(f"    {message.attempts} attempts, the last: {message.last_error}")
    if message.state is MessageState.WAITING and message.attempts:
        lines.append(f"    the next at {message.next_attempt_at:%H:%M:%S} UTC")
    text = _text(message)
    lines += [f"    {line}".rstrip() for line in (message.subject, "", *text.splitlines()) if text]
    return "\n".join(lines) + "\n"


def _text(message: OutboxMessage) -> str:
    """Nothing of one that was never to be sent: its link is good for nothing."""
    return message.text if message.state is MessageState.WAITING or message.attempts else ""


def _shown(message: OutboxMessage) -> dict[str, Any]:
    return {
        "id": str(message.id), "state": message.state.value, "kind": message.kind.value,
        "tenant": message.tenant or None, "recipient": message.recipient, "subject": message.subject,
        "text": _text(message),
        "created_at": message.created_at.isoformat(), "attempts": message.attempts,
        "next_attempt_at": message.next_attempt_at.isoformat(), "last_error": message.last_error,
    }  # fmt: skip
