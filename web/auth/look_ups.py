"""What doors keep of what they looked up: good ones and misses apart, so that made-up secrets evict nothing good, and
since when each is confirmed, so that what ended is not good without end while the database answers nobody."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from core.errors import DatabaseUnavailable

MAX_GOOD = 10_000
MAX_MISSES = 1_000
# So long is what was good still good for everything; after that it may write events alone.
UNCONFIRMED_SECONDS = 30.0

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Entry(Generic[V]):
    """One answer of the database; `found` is None for a miss. Times are of the monotonic clock, `looked_up_on` is of
    the wall's. `looked_up_at` is when it was asked for last, `confirmed_at` when it was answered."""

    found: V | None
    looked_up_at: float = field(default_factory=time.monotonic)
    looked_up_on: float = field(default_factory=time.time)
    confirmed_at: float = field(default_factory=time.monotonic)

    def is_older_than(self, seconds: float) -> bool:
        """Whether it is to be asked for again."""
        return time.monotonic() - self.looked_up_at > seconds

    def asked_in_vain(self) -> Entry[V]:
        """The same, asked for just now: the next to ask does not wait for the database at once."""
        self.looked_up_at, self.looked_up_on = time.monotonic(), time.time()
        return self

    def require_confirmed(self) -> None:
        """Refuses what nobody has confirmed for `UNCONFIRMED_SECONDS`.

        Raises:
            DatabaseUnavailable: it may have ended since.
        """
        if time.monotonic() - self.confirmed_at > UNCONFIRMED_SECONDS:
            raise DatabaseUnavailable(retry_after=2.0)


class LookUps(Generic[K, V]):
    """The entries of one kind of secret; those asked for longest ago go first."""

    def __init__(self) -> None:
        self._good: OrderedDict[K, Entry[V]] = OrderedDict()
        self._misses: OrderedDict[K, Entry[V]] = OrderedDict()

    def get(self, key: K) -> Entry[V] | None:
        return self._good.get(key) or self._misses.get(key)

    def keep(self, key: K, found: V | None) -> Entry[V]:
        """The entry of what was answered just now."""
        self._good.pop(key, None)
        self._misses.pop(key, None)
        entries, most = (self._misses, MAX_MISSES) if found is None else (self._good, MAX_GOOD)
        entry = entries[key] = Entry(found)
        while len(entries) > most:
            entries.popitem(last=False)
        return entry
