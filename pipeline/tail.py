"""What is told of the events that were just counted. Nobody waits for it: counting notes, a chore publishes; and while
nobody listens there is nothing to note."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from core.errors import LiveUnavailable
from core.events import EnrichedEvent
from core.tails import MAX_TOLD, Gathered, TailedEvent, Tails
from pipeline.event_rows import Pair

TELL_SECONDS = 0.25
LOOK_SECONDS = 1.0


class TailTeller:
    """One an aggregate worker."""

    def __init__(self, tails: Tails) -> None:
        self._tails = tails
        self._listened: frozenset[UUID] = frozenset()
        self._waiting: defaultdict[UUID, Gathered] = defaultdict(Gathered)
        self._ticks = 0

    def note(self, fresh: Sequence[Pair]) -> None:
        """Events that were counted, in the order of their receipt."""
        if not self._listened:
            return
        by_tenant: defaultdict[UUID, list[EnrichedEvent]] = defaultdict(list)
        for batch, event in fresh:
            if batch.tenant_id in self._listened:
                by_tenant[batch.tenant_id].append(event)
        for tenant_id, events in by_tenant.items():
            gathered = self._waiting[tenant_id]
            gathered.skip(max(0, len(events) - MAX_TOLD))
            gathered.add(tailed(event) for event in events[-MAX_TOLD:])

    async def tell(self) -> float:
        """A chore: publishes what was noted, and looks who listens; in how many seconds it is worth doing again."""
        waiting, self._waiting = self._waiting, defaultdict(Gathered)
        told: Mapping[UUID, Gathered] = {name: part for name, part in waiting.items() if name in self._listened}
        try:
            if told:
                await self._tails.tell({tenant_id: gathered.told() for tenant_id, gathered in told.items()})
            self._ticks -= 1
            if self._ticks <= 0:
                self._listened = await self._tails.listened()
                self._ticks = round(LOOK_SECONDS / TELL_SECONDS)
        except LiveUnavailable:
            # A tail is of the moment: what could not be told is not told later.
            self._listened = frozenset()
        if not self._listened:
            self._ticks = 0
            return LOOK_SECONDS
        return TELL_SECONDS


def tailed(event: EnrichedEvent) -> TailedEvent:
    return TailedEvent(event.timestamp_ms, event.id, event.type, event.session_id, event.user_id, event.is_bot)
