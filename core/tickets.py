"""Tickets: for a browser's `EventSource`, which can set no header. A ticket stands for an `Authorization`, once and for
half a minute, so that what lands in the logs of proxies is good for nothing. Kept sealed, under its hash."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Any

from core.errors import LiveUnavailable, Misconfigured, Unauthenticated
from core.keys import seal, unseal
from core.topics import ticket_key
from core.valkey import VALKEY_AWAY, open_valkey

LIFE_SECONDS = 30
CALL_SECONDS = 2.0
PREFIX = "cm_st_"
MAX_LENGTH = 100


class Tickets:
    """Makes and takes them."""

    def __init__(self, url: str, master_key: bytes) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=4)
        self._master_key = master_key

    async def make(self, authorization: str) -> str:
        """A ticket for what was sent as `Authorization`.

        Raises:
            LiveUnavailable: Valkey is away.
        """
        ticket = PREFIX + secrets.token_urlsafe(32)
        name = _name_of(ticket)
        sealed = seal(authorization, key_id=name, master_key=self._master_key)
        try:
            await self._client.set(ticket_key(name), sealed, ex=LIFE_SECONDS)
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error
        return ticket

    async def take(self, ticket: str) -> str:
        """The `Authorization` that a ticket stands for; it is spent.

        Raises:
            Unauthenticated: unknown, spent or too old, told apart nowhere. LiveUnavailable: Valkey is away.
        """
        name = _name_of(ticket)
        sealed: Any = None
        if ticket.startswith(PREFIX) and len(ticket) <= MAX_LENGTH:
            try:
                sealed = await self._client.getdel(ticket_key(name))
            except VALKEY_AWAY as error:
                raise LiveUnavailable(retry_after=1.0) from error
        try:
            if sealed is not None:
                return unseal(sealed, key_id=name, master_key=self._master_key)
        except Misconfigured:
            # The master key was changed meanwhile.
            pass
        raise Unauthenticated(
            "The ticket is unknown, spent or older than half a minute; get another by POST /api/stream/tickets.",
            code="invalid_ticket",
        )

    async def close(self) -> None:
        await self._client.aclose()


def _name_of(ticket: str) -> str:
    return sha256(ticket.encode()).hexdigest()
