"""What a stream over HTTP was opened with, looked at again while it lives."""

from __future__ import annotations

import asyncio
import time

from core.errors import CloudMetricsError, DatabaseUnavailable, PermissionDenied, TooMany, Unauthenticated
from web.auth.callers import Caller
from web.auth.look_ups import UNCONFIRMED_SECONDS
from web.graphql_door import GraphQLDoor

RECHECK_SECONDS = 10.0


class Credentials:
    """An `Authorization`, where it came from, and who that was at first."""

    def __init__(self, door: GraphQLDoor, authorization: str, address: str, caller: Caller) -> None:
        self._door = door
        self._authorization = authorization
        self._address = address
        self._first = caller

    async def ended(self) -> CloudMetricsError:
        """Waits until they are good no more, or for less than before; says which."""
        confirmed_at = time.monotonic()
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            if self._first.expires_at is not None and self._first.expires_at <= time.time():
                return Unauthenticated("The access token has expired; ask with a new one.", code="token_expired")
            try:
                now = await self._door.identify(self._authorization, self._address)
            except (DatabaseUnavailable, TooMany) as error:
                if time.monotonic() - confirmed_at > UNCONFIRMED_SECONDS:
                    return error
                continue
            except CloudMetricsError as error:
                return error
            confirmed_at = time.monotonic()
            if self._first.has_lost(now):
                return PermissionDenied("You may less than when this stream was opened; ask again.")
