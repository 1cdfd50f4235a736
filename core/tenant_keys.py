"""A tenant's keys in Valkey, found by its id, which stands in the name of each, and ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

from core.errors import Unavailable
from core.topics import bucket_key
from core.valkey import VALKEY_AWAY, open_valkey

CALL_SECONDS = 2.0
SCAN_COUNT = 1000


class TenantKeys:
    """Ends keys of tenants that are gone; one pass over all keys serves any number of them."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=2)

    async def remove(self, tenant_ids: Iterable[UUID], api_keys: Iterable[str] = ()) -> int:
        """Removes all keys of these tenants, and the buckets of these API keys; how many.

        Raises:
            Unavailable: Valkey is away; some may be there still.
        """
        removed = 0
        try:
            async for names in self._named(list(tenant_ids)):
                removed += int(await self._client.unlink(*names))
            buckets = [bucket_key(key) for key in api_keys]
            if buckets:
                removed += int(await self._client.unlink(*buckets))
        except VALKEY_AWAY as error:
            raise Unavailable("Valkey does not answer.") from error
        return removed

    async def count(self, tenant_id: UUID) -> int:
        """How many keys there are of a tenant; same errors."""
        try:
            return sum([len(names) async for names in self._named([tenant_id])])
        except VALKEY_AWAY as error:
            raise Unavailable("Valkey does not answer.") from error

    async def _named(self, tenant_ids: list[UUID]) -> AsyncIterator[list[bytes]]:
        wanted = [str(tenant_id).encode() for tenant_id in tenant_ids]
        cursor: Any = 0
        names: Any
        while wanted:
            cursor, names = await self._client.scan(cursor, match="cm:*", count=SCAN_COUNT)
            if found := [name for name in names if any(tenant in name for tenant in wanted)]:
                yield found
            if not int(cursor):
                return

    async def close(self) -> None:
        await self._client.aclose()
