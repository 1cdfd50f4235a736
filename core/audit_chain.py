"""The audit trail as a chain, and what is wrong with one. Pure; no I/O.

An entry's hash is SHA-256 over the hash before it and its fields, each as a netstring (length in bytes, a colon, the
bytes, a comma: https://cr.yp.to/proto/netstrings.txt), in the order of `fields_of`. The table's trigger makes it
(migration 0015); here it is made anew. An entry also bears the hash before it, so that each can be checked by itself:
what does not fit itself was changed, and what fits itself and not its successor was replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

GENESIS = bytes(32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    """One entry of a tenant's trail. `diff` is JSON text as PostgreSQL writes jsonb."""

    tenant_id: UUID
    id: UUID
    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    diff: str
    request_id: str
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends."""

    sequence: int
    hash: bytes


class Wrong(StrEnum):
    """What can be wrong with a place of the chain."""

    CHANGED = "changed"
    MISSING = "missing"
    PUT_IN = "put_in"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the places `first` to `last`; `entry_id` where an entry is there."""

    wrong: Wrong
    first: int
    last: int
    message: str
    entry_id: UUID | None = None


def fields_of(entry: ChainedEntry) -> tuple[str, ...]:
    """What the hash is over, beside the hash before it; the time in microseconds since 1970."""
    return (
        str(entry.tenant_id),
        str(entry.sequence),
        str(entry.id),
        str((entry.at - EPOCH) // timedelta(microseconds=1)),
        entry.actor,
        entry.action,
        entry.subject,
        entry.diff,
        entry.request_id,
    )


def digest_of(entry: ChainedEntry) -> bytes:
    """The hash that an entry ought to have."""
    text = b"".join(b"%d:%b," % (len(field), field) for field in (part.encode() for part in fields_of(entry)))
    return sha256(entry.previous_hash + text).digest()


class Chain:
    """Checks entries as they come, in their order; holds the last one alone.

    `anchor` is a head that was noted elsewhere before: whoever could rewrite the whole chain could not rewrite that.
    """

    def __init__(self, anchor: Head | None = None) -> None:
        self._last: ChainedEntry | None = None
        self._last_fits = True
        self._anchor = anchor
        # Entries that claim one place: one, unless somebody put another in.
        self._claims: list[ChainedEntry] = []
        self.entries = 0

    def add(self, entry: ChainedEntry) -> Iterator[Finding]:
        """What is wrong with the places before an entry's."""
        self.entries += 1
        if self._claims and self._claims[0].sequence != entry.sequence:
            yield from self._settle()
        self._claims.append(entry)

    def _settle(self) -> Iterator[Finding]:
        """Checks who stands at a place, once all who claim it are known."""
        claims, self._claims = self._claims, []
        if not claims:
            return
        last, place = self._last, claims[0].sequence
        before = GENESIS if last is None else last.hash
        expected = 1 if last is None else last.sequence + 1
        fitting = [claim for claim in claims if digest_of(claim) == claim.hash]
        entry = next((claim for claim in fitting if claim.previous_hash == before), (fitting or claims)[0])
        for other in claims:
            if other is not entry or place < expected:
                message = f"entry {place} was put in: its place is not in the chain, or another's"
                yield Finding(Wrong.PUT_IN, place, place, message, other.id)
        if place < expected:
            return
        if place > expected:
            yield missing(expected, place - 1)
        fits = entry in fitting
        if not fits:
            yield Finding(Wrong.CHANGED, place, place, f"entry {place} was changed: its hash is not its own", entry.id)
        elif place == expected and entry.previous_hash != before and self._last_fits:
            yield replaced(last, entry)
        if self._anchor is not None and place == self._anchor.sequence and entry.hash != self._anchor.hash:
            message = f"entry {place} was rewritten: it is not the one that was noted"
            yield Finding(Wrong.CHANGED, place, place, message, entry.id)
        self._last, self._last_fits = entry, fits

    def end(self, head: Head | None) -> Iterator[Finding]:
        """What shows when no more come."""
        yield from self._settle()
        last = self._last
        place = last.sequence if last else 0
        if head is None:
            yield Finding(Wrong.HEAD, place, place, "the head of the chain is missing: what was last cannot be told")
        elif head.sequence > place:
            yield missing(place + 1, head.sequence)
        elif last is not None and head.sequence < place:
            message = f"entries {head.sequence + 1} to {place} were put in: the chain ends at {head.sequence}"
            yield Finding(Wrong.PUT_IN, head.sequence + 1, place, message, last.id)
        elif last is not None and head.hash != last.hash and self._last_fits:
            message = f"entry {place} was replaced: the head remembers another hash"
            yield Finding(Wrong.CHANGED, place, place, message, last.id)
        if self._anchor is not None and place < self._anchor.sequence:
            yield missing(place + 1, self._anchor.sequence)


def missing(first: int, last: int) -> Finding:
    names = f"entry {first} is" if first == last else f"entries {first} to {last} are"
    return Finding(Wrong.MISSING, first, last, f"{names} missing")


def replaced(last: ChainedEntry | None, entry: ChainedEntry) -> Finding:
    """Two entries that fit themselves and not each other: the later one remembers what the earlier one was."""
    if last is None:
        message = f"entry {entry.sequence} was put in: it does not begin the chain"
        return Finding(Wrong.PUT_IN, entry.sequence, entry.sequence, message, entry.id)
    message = f"entry {last.sequence} was replaced: entry {entry.sequence} remembers another hash"
    return Finding(Wrong.CHANGED, last.sequence, last.sequence, message, last.id)
