"""Apache and nginx access logs, common and combined: one line in, one `http_request` event out. Pure.

Formats: Apache mod_log_config "common" and "combined" (and vhost_combined), nginx "combined". Both escape quotes,
backslashes and bytes outside ASCII as `\\"`, `\\\\` and `\\xHH`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import NamedTuple

import msgspec

MAX_TEXT = 8000
# Text with escapes, as runs between them: three times as fast as one step a character.
_TEXT = r'([^"\\]*(?:\\.[^"\\]*)*)'
_QUOTED = f'"{_TEXT}"'
_LINE = re.compile(
    # The virtual host of vhost_combined; its name holds no colon, since an IPv6 address may end as a port does.
    r"(?:(?:[^\s:]+|\[\S+\]):\d+ )?(?P<host>\S+) \S+ [^[]*\[(?P<time>[^\]]+)\] "
    + _QUOTED
    + r" (?P<status>\d{3}|-) (?P<bytes>\d+|-)"
    # The agent's closing quote may be missing: a line that was cut while it was written still counts.
    + f'(?: {_QUOTED}(?: "{_TEXT}(?P<end>"?)(?P<rest>.*))?)?'
)
_REQUEST = re.compile(r"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]+) (?P<path>\S.*?)(?: (?P<protocol>HTTP/[0-9.]+))?")
# What nearly every request ends with; the pattern is for the rest.
_PROTOCOLS = frozenset({"HTTP/1.1", "HTTP/1.0", "HTTP/2.0"})
_ESCAPE = re.compile(rb'\\(x[0-9A-Fa-f]{2}|["\\nrtbfv])')
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_MONTHS = {
    name: n
    for n, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)
}
_TIME = re.compile(
    r"(?P<date>\d{1,2}/(?P<month>[A-Z][a-z]{2})/\d{4}):(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) "
    r"(?P<zone>[+-]\d{4})"
)


class Unreadable(ValueError):
    """The line is not of a known form; says why."""


class LogLine(NamedTuple):
    """One request as the server wrote it; '' and None for `-`."""

    host: str
    moment: datetime
    method: str
    path: str
    protocol: str
    status: int | None
    bytes: int | None
    referrer: str
    agent: str


def parse_line(line: bytes) -> LogLine:
    """One line, without its end.

    Raises:
        Unreadable: says what is missing.
    """
    text = line.decode("utf-8", "replace").replace("\0", "\ufffd")
    found = _LINE.match(text)
    if not found:
        raise Unreadable(_why(text))
    host, moment, request, status, size, referrer, agent = found.group("host", "time", 3, "status", "bytes", 6, 7)
    method, path, protocol = _split_request(unescape(request))
    return LogLine(
        host=host,
        moment=parse_time(moment),
        method=method,
        path=path,
        protocol=protocol,
        status=_number(status),
        bytes=_number(size),
        referrer=_known(referrer),
        agent=_known(agent),
    )


class _Properties(msgspec.Struct, omit_defaults=True):
    method: str = ""
    path: str = ""
    status: int | None = None
    bytes: int | None = None
    protocol: str = ""
    target: str = ""


class _Context(msgspec.Struct, omit_defaults=True):
    ip: str
    # Said even when empty, or the importer's own agent would stand in for it.
    user_agent: str
    referrer: str = ""


class RequestEvent(msgspec.Struct):
    """An `http_request` as ingest takes it."""

    id: str
    timestamp: datetime
    session_id: str
    properties: _Properties
    context: _Context
    type: str = "http_request"


def event_of(line: LogLine, *, event_id: str, session_id: str) -> RequestEvent:
    """The event of a line. `path` is the request's without its query; where it has one the whole is `target`."""
    path, mark, _ = line.path.partition("?")
    properties = _Properties(line.method, path, line.status, line.bytes, line.protocol, line.path if mark else "")
    return RequestEvent(event_id, line.moment, session_id, properties, _Context(line.host, line.agent, line.referrer))


def unescape(text: str) -> str:
    """Text as it was before the server escaped it; bytes that are no UTF-8 become U+FFFD, NUL as well."""
    if "\\" in text:
        raw = _ESCAPE.sub(_escaped, text.encode("utf-8", "surrogatepass"))
        text = raw.decode("utf-8", "replace").replace("\0", "\ufffd")
    return text[:MAX_TEXT]


@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """`17/May/2015:10:05:03 +0000`.

    Raises:
        Unreadable: not of that form, or no such moment.
    """
    found = _TIME.fullmatch(text)
    if not found or found["month"] not in _MONTHS:
        raise Unreadable(f"no time of the form 17/May/2015:10:05:03 +0000 in [{text[:40]}]")
    date, hour, minute, second, zone = found.group("date", "hour", "minute", "second", "zone")
    try:
        return _midnight(date, zone).replace(hour=int(hour), minute=int(minute), second=int(second))
    except ValueError as error:
        raise Unreadable(f"no such time: {text[:40]} ({error})") from None


@lru_cache(maxsize=256)
def _midnight(date: str, zone: str) -> datetime:
    """The day of `17/May/2015` and `+0000`, which many lines share. Raises ValueError."""
    day, month, year = date.split("/")
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    return datetime(int(year), _MONTHS[month], int(day), tzinfo=timezone(-offset if zone[0] == "-" else offset))


def _split_request(request: str) -> tuple[str, str, str]:
    """Method, path and protocol; a request that is none is kept whole as the path, `-` is nothing."""
    parts = request.split(" ")
    if len(parts) == 3 and parts[0].isalpha() and parts[0].isascii() and parts[1] and parts[2] in _PROTOCOLS:
        return parts[0], parts[1], parts[2]
    found = _REQUEST.fullmatch(request)
    if found:
        return found["method"], found["path"], found["protocol"] or ""
    return "", "" if request == "-" else request, ""


def _escaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code.startswith(b"x"):
        return bytes([int(code[1:], 16)])
    return _NAMED.get(code, code)


def _known(text: str | None) -> str:
    """Text of a quoted field; '' of one that is absent or `-`."""
    return "" if text is None or text == "-" else unescape(text)


def _number(text: str) -> int | None:
    return None if text == "-" else min(int(text), 2**63 - 1)


def _why(text: str) -> str:
    if not text.strip():
        return "empty line"
    if not re.search(r"\[[^\]]+\]", text):
        return "no [time] in it"
    return 'no "request" status bytes after the time'
