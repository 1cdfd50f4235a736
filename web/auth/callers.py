"""Who asks, whichever credential said so: what the GraphQL doors need to know of a caller."""

from __future__ import annotations

from dataclasses import dataclass

from core.keys import ApiKey
from core.shares import ShareGrant
from core.tenancy import Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal, and whose bucket its requests are taken from. `key` is None where no key asks; `month_usage` is
    what the key's tenant has sent this month, and is read for keys alone. `expires_at`: when what it sent is good no
    more, in seconds since the epoch. `share` is what a share link shows."""

    principal: Principal
    bucket: str
    key: ApiKey | None = None
    month_usage: int = 0
    expires_at: float | None = None
    share: ShareGrant | None = None

    def has_lost(self, now: Caller) -> bool:
        """Whether it may less by now, as after another role."""
        return not self.principal.permissions <= now.principal.permissions
