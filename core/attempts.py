"""How often somebody may try: to sign in, or anything else that tests a secret of an account.

Three buckets, none of which a good attempt fills again. By address: whoever tries many accounts. By account, from
addresses it has no session from: many addresses that try one. By account and address, where it has one: so that who
keeps an account's other bucket empty cannot keep its person out from where that person works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from core.errors import TooMany
from core.networks import network_of
from core.ratelimit import Allowance, RateLimiter

ADDRESS_A_MINUTE = 30
ACCOUNT_A_MINUTE = 10


class Attempts:
    """One a process; the buckets are all processes' together."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def from_address(self, address: str) -> Allowance:
        """One attempt of an address, whatever account it is for.

        Raises:
            TooMany: with the seconds until the next.
        """
        return await self._take(f"attempts:address:{network_of(address)}", ADDRESS_A_MINUTE, "from this address")

    async def on_account(self, email: str, address: str, known_addresses: Iterable[str]) -> Allowance:
        """One attempt on an account that may or may not be there. Same error."""
        account = hashlib.sha256(email.encode()).hexdigest()[:32]
        network = network_of(address)
        place = network if network in {network_of(known) for known in known_addresses} else "elsewhere"
        return await self._take(f"attempts:account:{account}:{place}", ACCOUNT_A_MINUTE, "on this account")

    async def of_person(self, person_id: str) -> Allowance:
        """One attempt of who is signed in, on its own password. Same error."""
        return await self._take(f"attempts:person:{person_id}", ACCOUNT_A_MINUTE, "of yours")

    async def _take(self, bucket: str, a_minute: int, what: str) -> Allowance:
        allowance = await self._limiter.take(bucket, a_minute)
        if not allowance.is_allowed:
            raise TooMany(
                f"More than {a_minute} attempts a minute {what}; wait {allowance.retry_after:.0f} s.",
                retry_after=allowance.retry_after,
                code="too_many_attempts",
            )
        return allowance
