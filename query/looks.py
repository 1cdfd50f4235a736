"""Looks into the store of kept answers, those of one turn of the loop as one: a screen of twelve charts asks once."""

from __future__ import annotations

import asyncio
from uuid import UUID

from core.answer_store import AnswerStore, Place, Seen


class Looks:
    """Collects what is asked for until the loop has run everybody that is ready, then asks."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._waiting: asyncio.Future[Seen | None] | None = None
        self._tenants: set[UUID] = set()
        self._places: set[Place] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, place: Place, *, is_kept_here: bool) -> Seen | None:
        """The stamps of a place's tenant, and what is kept there unless that is known; None while nobody can say."""
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            loop.call_soon(self._ask)
        self._tenants.add(place[0])
        if not is_kept_here:
            self._places.add(place)
        return await asyncio.shield(self._waiting)

    def _ask(self) -> None:
        waiting, self._waiting = self._waiting, None
        tenants, self._tenants = list(self._tenants), set()
        places, self._places = list(self._places), set()

        async def ask() -> None:
            assert waiting is not None
            try:
                waiting.set_result(await self._store.look(tenants, places))
            except BaseException as error:
                waiting.set_exception(error)
                # Whoever asked may be gone.
                waiting.exception()
                raise

        task = asyncio.get_running_loop().create_task(ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
