"""Requests that no key vouches for: a bucket by address slows guessing, and every answer bears `RateLimit-*`."""

from __future__ import annotations

from core.errors import CloudMetricsError, TooMany, Unauthenticated
from core.networks import network_of
from core.ratelimit import Allowance, RateLimiter

STRANGER_REQUESTS_PER_MINUTE = 600


async def admit_holder(limiter: RateLimiter, address: str) -> Allowance:
    """Takes one token of what an address may have of refresh tokens looked up, before one is: a made-up one costs as
    much as a good one. A bucket of its own, so that whoever guesses keys signs nobody out.

    Raises:
        TooMany: with the seconds until the next.
    """
    allowance = await limiter.take(f"tokens:address:{network_of(address)}", STRANGER_REQUESTS_PER_MINUTE)
    if not allowance.is_allowed:
        raise TooMany(
            f"More than {allowance.limit} requests a minute with refresh tokens from this address; wait "
            f"{allowance.retry_after:.1f} s.",
            retry_after=allowance.retry_after,
        )
    return allowance


async def admit_look_up(limiter: RateLimiter, address: str) -> None:
    """Takes one token of what an address may have of secrets looked up that are not known to be good: a made-up one
    costs the database as much as a good one. A bucket of its own, taken from before anybody knows who asks; what is
    known to be good takes none of it.

    Raises:
        TooMany: with the seconds until the next.
    """
    allowance = await limiter.take(f"keys:address:{network_of(address)}", STRANGER_REQUESTS_PER_MINUTE)
    if not allowance.is_allowed:
        raise _too_many(allowance)


async def refuse_stranger(
    limiter: RateLimiter, address: str, refusal: CloudMetricsError
) -> tuple[Allowance, CloudMetricsError]:
    """Takes one token of an address's bucket, for a request refused before its sender was known; and what to answer:
    the refusal, or that there were too many of them, when it is of the key and the bucket was empty."""
    allowance = await limiter.take(f"address:{network_of(address)}", STRANGER_REQUESTS_PER_MINUTE)
    if allowance.is_allowed or not isinstance(refusal, Unauthenticated):
        return allowance, refusal
    return allowance, _too_many(allowance)


def _too_many(allowance: Allowance) -> TooMany:
    return TooMany(
        f"More than {allowance.limit} requests a minute without a good key from this address; wait "
        f"{allowance.retry_after:.1f} s, and send a key that is live.",
        retry_after=allowance.retry_after,
    )
