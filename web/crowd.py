"""How many sockets there may be: in this process, unknown yet, of an address, of a tenant. Counted before one is
accepted where that can be known before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import TooMany
from core.tenancy import TenantId

MAX_SOCKETS = 2000
MAX_UNKNOWN = 200
MAX_OF_ADDRESS = 100
MAX_OF_TENANT = 1000
COME_BACK_SECONDS = 5.0


class Crowd:
    """The sockets of one process and one kind. `what` they are and what to do without one more is for the refusal."""

    def __init__(self, *, what: str, remedy: str) -> None:
        self._what = what
        self._remedy = remedy
        self._open = 0
        self._unknown = 0
        self._by_address: Counter[str] = Counter()
        self._by_tenant: Counter[TenantId] = Counter()

    @contextmanager
    def arrived(self, address: str) -> Iterator[None]:
        """A place for a socket from an address.

        Raises:
            TooMany: names what is full.
        """
        if self._open >= MAX_SOCKETS:
            raise self._full(MAX_SOCKETS, "in this process")
        if self._by_address[address] >= MAX_OF_ADDRESS:
            raise self._full(MAX_OF_ADDRESS, "from this address")
        self._open += 1
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._open -= 1
            _leave(self._by_address, address)

    @contextmanager
    def unknown(self) -> Iterator[None]:
        """A place for a socket whose sender is not known yet; same errors."""
        if self._unknown >= MAX_UNKNOWN:
            raise self._full(MAX_UNKNOWN, "that have not said who they are")
        self._unknown += 1
        try:
            yield
        finally:
            self._unknown -= 1

    @contextmanager
    def known(self, tenant_id: TenantId) -> Iterator[None]:
        """A place among its tenant's sockets; same errors."""
        if self._by_tenant[tenant_id] >= MAX_OF_TENANT:
            raise self._full(MAX_OF_TENANT, "of this tenant in this process")
        self._by_tenant[tenant_id] += 1
        try:
            yield
        finally:
            _leave(self._by_tenant, tenant_id)

    def _full(self, limit: int, where: str) -> TooMany:
        return TooMany(
            f"There are {limit} {self._what} {where}, the most there may be; {self._remedy}.",
            retry_after=COME_BACK_SECONDS,
            code="too_many_sockets",
        )


def _leave(counter: Counter[Any], key: object) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
