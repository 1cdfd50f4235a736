"""Ids and sessions of imported lines: the same line of the same source is the same event, however often it is read.

Equal lines are told apart by which occurrence they are. Equal lines of a log share their second, so the counts of the
last 200,000 distinct lines are enough, and memory stays constant however long the file.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from hashlib import blake2b

REMEMBERED_LINES = 200_000
REMEMBERED_VISITORS = 100_000
# The digit that says "variant of RFC 9562", for each that stands in its place.
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
SESSION_GAP = timedelta(minutes=30)


class LineIds:
    """Ids of lines of one source, in the order in which they are read."""

    def __init__(self, source: str) -> None:
        self._key = blake2b(source.encode()).digest()
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def next_id(self, line: bytes) -> str:
        """The id of the next line: a UUID version 8 (RFC 9562, 5.8) of source, line and occurrence."""
        digest = blake2b(line, digest_size=16, key=self._key).digest()
        occurrence = self._seen.pop(digest, 0) + 1
        self._seen[digest] = occurrence
        if len(self._seen) > REMEMBERED_LINES:
            self._seen.popitem(last=False)
        if occurrence > 1:
            digest = blake2b(digest + occurrence.to_bytes(8, "big"), digest_size=16, key=self._key).digest()
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


class Sessions:
    """Sessions by address and agent: a new one after 30 minutes without a request."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], tuple[str, datetime]] = OrderedDict()

    def session_of(self, host: str, agent: str, moment: datetime) -> str:
        """The session of a request; its id follows from visitor and beginning alone."""
        visitor = (host, agent)
        session, last = self._open.pop(visitor, ("", moment))
        if not session or moment - last > SESSION_GAP:
            text = f"{host}\0{agent}\0{moment.isoformat()}".encode("utf-8", "replace")
            session = blake2b(text, digest_size=12).hexdigest()
        self._open[visitor] = (session, max(last, moment))
        if len(self._open) > REMEMBERED_VISITORS:
            self._open.popitem(last=False)
        return session
