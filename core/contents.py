"""What an event may hold, read off its bytes: no value is looked at one by one, so that no body is worth sending.

A hundred events of 32 KiB hold two million values; to visit each in Python would take seconds. Patterns over bytes
take milliseconds, and are exact: what stands in strings is taken out before structure and numbers are looked at.
"""

from __future__ import annotations

import re

import msgspec

from core.errors import BadInput
from core.events import MAX_DEPTH

MAX_STRING_LENGTH = 8192
MAX_CONTAINERS = 2000
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
# A path is looked for as far as this: far enough for people, too short to cost anything.
MAX_TRACED_BYTES = 2048

_NUMBER_CHARACTERS = b"0123456789+-.eE"
_LONG_NUMBER = b"0" * 19
# Turns every digit into 0 and all else into a space, so that a long number is found as text.
_DIGITS = bytes(ord("0") if chr(byte).isascii() and chr(byte).isdigit() else ord(" ") for byte in range(256))
# What a path is made of; the last string may be cut by the place that is looked for.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|$)|[{}\[\],:]')
_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class EventRejected(BadInput):
    """One event of a batch cannot be taken; the others can."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message, code=code, field=field)


def check_contents(raw: bytes) -> None:
    """The texts, numbers and nesting of an event that is JSON.

    Raises:
        EventRejected: with code, field and message.
    """
    # Escapes that would hide where a string ends, or look like a NUL, become as many bytes of something else.
    masked = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in raw else raw
    nul = masked.find(b"\\u0000")
    if nul >= 0:
        raise EventRejected(
            "nul_character",
            _path_of(raw, nul),
            "A text of the event holds a NUL character, which no store keeps; remove it.",
        )
    is_long = len(raw) > MAX_STRING_LENGTH
    if is_long or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH or holds_long_number(raw):
        parts = masked.split(b'"')
        if is_long:
            _check_strings(raw, parts)
        bare = b"".join(parts[::2])
        _check_nesting(bare)
        _check_numbers(bare, raw)


def holds_long_number(raw: bytes) -> bool:
    """Whether there are so many digits in a row, anywhere, that they could be a number beyond 64 bits."""
    return _LONG_NUMBER in raw.translate(_DIGITS)


def _check_strings(raw: bytes, parts: list[bytes]) -> None:
    """`parts` are what stands between quotes: every second one is a string."""
    if max(map(len, parts)) <= MAX_STRING_LENGTH:
        return
    at = 0
    for number, part in enumerate(parts):
        # Bytes are no fewer than characters: what is long in bytes may be short enough.
        if number % 2 and len(part) > MAX_STRING_LENGTH:
            length = len(msgspec.json.decode(raw[at - 1 : at + len(part) + 1], type=str))
            if length > MAX_STRING_LENGTH:
                raise EventRejected(
                    "limit_exceeded",
                    _path_of(raw, at - 1),
                    f"A text of the event has {length} characters; at most {MAX_STRING_LENGTH} are taken.",
                )
        at += len(part) + 1


def _check_nesting(bare: bytes) -> None:
    brackets = bare.translate(_ROUND, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise EventRejected(
            "limit_exceeded",
            "properties",
            f"The event holds {len(brackets) // 2} objects and lists; at most {MAX_CONTAINERS} are taken.",
        )
    # The event itself is around the levels that are counted.
    for _ in range(MAX_DEPTH + 1):
        brackets = brackets.replace(b"()", b"")
    if brackets:
        raise too_deep()


def _check_numbers(bare: bytes, raw: bytes) -> None:
    digits = bare.translate(_DIGITS)
    at = digits.find(_LONG_NUMBER)
    while at >= 0:
        start = len(bare[:at].rstrip(_NUMBER_CHARACTERS))
        end = at + len(_LONG_NUMBER)
        end += len(bare[end:]) - len(bare[end:].lstrip(_NUMBER_CHARACTERS))
        number = bare[start:end]
        # With a point or an exponent it is a float. More digits than 19 are out of range, and int() is slow on them.
        if not set(number) & set(b".eE") and (len(number) > 20 or not MIN_INTEGER <= int(number) <= MAX_INTEGER):
            raise EventRejected(
                "number_out_of_range",
                _path_of(raw, raw.find(number)),
                "A whole number of the event is outside 64 bits (±2^63); send it as text or as a float.",
            )
        at = digits.find(_LONG_NUMBER, end)


def too_deep() -> EventRejected:
    return EventRejected("json_too_deep", "properties", f"The event is nested deeper than {MAX_DEPTH} levels.")


def _path_of(raw: bytes, position: int) -> str:
    """The path of what stands at a place, such as `properties.items.0`; of what is far inside only `properties`."""
    if position > MAX_TRACED_BYTES:
        return "properties"
    path: list[str | int | None] = []
    text = ""
    for found in _TOKEN.finditer(raw, 0, position):
        token = found[0]
        if token in (b"{", b"["):
            path.append(None if token == b"{" else 0)
        elif token in (b"}", b"]"):
            path.pop()
        elif token == b",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else None
        elif token == b":":
            path[-1] = text
        else:
            text = token[1:-1].decode("utf-8", "replace")
    return ".".join(str(part) for part in path if part is not None)[:200]
