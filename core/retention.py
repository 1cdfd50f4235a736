"""How long things are kept: by tier, and by what the operator says of `self_hosted`. Decisions only; no I/O.

Measured on an event's own time, in whole days of UTC. What is past its time is refused at the door, not read, and
dropped a day later by a worker: an event that was accepted just in time finds its day still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.rollups import Resolution
from core.settings import Settings
from core.tenancy import TIER_LIMITS, Tier

ROLLUP_DAYS = {Resolution.MINUTE: 90, Resolution.FIVE_MINUTES: 90, Resolution.HOUR: 365}
GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """Days that one tier keeps of raw events and of each rollup; None is for ever."""

    events: int | None
    rollups: Mapping[Resolution, int | None]

    def since(self, resolution: Resolution | None, now: datetime) -> datetime | None:
        """The first moment that is kept, of a rollup or (None) of raw events; None: all that ever was."""
        days = self.events if resolution is None else self.rollups[resolution]
        return None if days is None else midnight(now) - timedelta(days=days)

    def dropped_before(self, resolution: Resolution | None, now: datetime) -> datetime | None:
        """Before which moment it may go; None: it stays."""
        since = self.since(resolution, now)
        return None if since is None else since - GRACE


@dataclass(frozen=True, slots=True)
class Retention:
    """What each tier keeps here."""

    by_tier: Mapping[Tier, Kept]

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        tiers = {tier: Kept(limits.retention_days, ROLLUP_DAYS) for tier, limits in TIER_LIMITS.items()}
        minutes, hours = settings.rollup_retention_days or None, settings.hourly_retention_days or None
        rollups = {Resolution.MINUTE: minutes, Resolution.FIVE_MINUTES: minutes, Resolution.HOUR: hours}
        return cls({**tiers, Tier.SELF_HOSTED: Kept(settings.retention_days or None, rollups)})

    def __getitem__(self, tier: Tier) -> Kept:
        return self.by_tier[tier]


FOR_EVER = Kept(None, dict.fromkeys(Resolution))


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's day in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
