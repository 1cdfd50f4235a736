"""Values as PostgreSQL takes them in a binary COPY (PostgreSQL manual, COPY, "Binary Format"): each is its length in
four bytes, and its bytes. Made here and not by the driver, a row costs a third: most of its values come again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
TRUE, FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
# PostgreSQL's moments begin with 2000-01-01.
EPOCH_US = 946_684_800_000_000
CACHE_ENTRIES = 20_000
# What is sent at once: enough rows that sending costs nothing, few enough that making them halts nobody.
ROWS_AT_ONCE = 200

_length = struct.Struct(">i").pack
_int8 = struct.Struct(">iq").pack
_float8 = struct.Struct(">id").pack


def row_start(columns: int) -> bytes:
    """What every row of so many columns begins with."""
    return struct.pack(">h", columns)


@lru_cache(maxsize=CACHE_ENTRIES)
def text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def data(value: bytes) -> bytes:
    """A bytea, or a UUID's 16 bytes."""
    return _length(len(value)) + value


def jsonb(encoded: bytes) -> bytes:
    """JSON text as jsonb, version 1 of its format."""
    return _length(len(encoded) + 1) + b"\1" + encoded


def moment(epoch_ms: int) -> bytes:
    """A timestamptz."""
    return _int8(8, epoch_ms * 1000 - EPOCH_US)


def bigint(value: int | None) -> bytes:
    return NULL if value is None else _int8(8, value)


@lru_cache(maxsize=CACHE_ENTRIES)
def integer(value: int | None) -> bytes:
    return NULL if value is None else struct.pack(">ii", 4, value)


def double(value: float | None) -> bytes:
    return NULL if value is None else _float8(8, value)


def boolean(*, value: bool) -> bytes:
    return TRUE if value else FALSE


def in_chunks(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Rows as the body of a COPY."""
    chunk = [HEADER]
    for row in rows:
        chunk.append(row)
        if len(chunk) >= ROWS_AT_ONCE:
            yield b"".join(chunk)
            chunk = []
    chunk.append(TRAILER)
    yield b"".join(chunk)
