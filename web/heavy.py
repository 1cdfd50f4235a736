"""How many heavy operations of one tenant run at once in this process. Another waits a moment for its turn: a page with
many charts asks for all of them together. Beyond that it is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from core.errors import TooMany
from core.tenancy import TenantId

# Points of cost from which a query is heavy: one question to the engine.
HEAVY_COST = 10
MAX_RUNNING = 5
MAX_WAITING = 20
WAIT_SECONDS = 5.0


@dataclass(slots=True)
class _Tenant:
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class HeavyOperations:
    """The places of all tenants in one process."""

    def __init__(self) -> None:
        self._tenants: dict[TenantId, _Tenant] = {}

    @asynccontextmanager
    async def place(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """A place, in the order of arrival.

        Raises:
            TooMany: there are too many before it, or none became free in time.
        """
        tenant = self._tenants.setdefault(tenant_id, _Tenant())
        try:
            await self._enter(tenant)
            try:
                yield
            finally:
                self._leave(tenant)
        finally:
            if not tenant.running and not tenant.waiting:
                self._tenants.pop(tenant_id, None)

    async def _enter(self, tenant: _Tenant) -> None:
        if tenant.running < MAX_RUNNING:
            tenant.running += 1
            return
        if len(tenant.waiting) >= MAX_WAITING:
            raise _too_many()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tenant.waiting.append(turn)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # Its turn came as it gave up: the next one has it.
                self._leave(tenant)
            else:
                with suppress(ValueError):
                    tenant.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise _too_many() from None
            raise

    @staticmethod
    def _leave(tenant: _Tenant) -> None:
        """Its place goes to who has waited longest, else it is free."""
        while tenant.waiting:
            turn = tenant.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        tenant.running -= 1


def _too_many() -> TooMany:
    return TooMany(
        f"{MAX_RUNNING} heavy operations of this tenant run and {MAX_WAITING} may wait, each up to "
        f"{WAIT_SECONDS:.0f} s; ask for less at once.",
        retry_after=1.0,
    )
