"""Probes: whether the process lives, and whether everything it needs answers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.database import CHECK_ROLE
from core.errors import CloudMetricsError, DatabaseUnavailable, LogUnavailable
from core.topics import GROUPS
from web.services import Services

CHECK_SECONDS = 3.0


class Health:
    """The probes of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def live(self, request: Request) -> Response:
        """200 while the process answers; which of several it was."""
        return JSONResponse({"status": "live", "pid": os.getpid()})

    async def ready(self, request: Request) -> Response:
        """200 when database and log answer, with each group's lag in records; else 503 and which is away."""
        database, lag = await asyncio.gather(self._database(), self._lag())
        is_ready = database == "ok" and lag is not None
        body: dict[str, Any] = {
            "status": "ready" if is_ready else "not_ready",
            "database": database,
            "log": "ok" if lag is not None else LogUnavailable.default_code,
            "lag": lag or {},
        }
        return JSONResponse(body, 200 if is_ready else 503, {} if is_ready else {"Retry-After": "2"})

    async def _database(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._services.database.as_doorkeeper() as session:
                await session.fetchrow(CHECK_ROLE)
            return "ok"
        except (CloudMetricsError, TimeoutError):
            return DatabaseUnavailable.default_code

    async def _lag(self) -> dict[str, int] | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return {
                    group: sum((await self._services.log.lag(group, topics)).values())
                    for group, topics in GROUPS.items()
                }
        except (CloudMetricsError, TimeoutError):
            return None
