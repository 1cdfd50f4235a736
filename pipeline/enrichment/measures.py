"""What a request measured: status, method, bytes and duration, where its properties have them well typed."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pipeline.enrichment.bounds import cut

MAX_STATUS = 999
MAX_METHOD_LENGTH = 16
# A pebibyte, and a year in milliseconds: what is beyond is a mistake, and would drown every sum it is in.
MAX_BYTES = 2**50
MAX_DURATION_MS = 366 * 86_400_000


class _Properties(msgspec.Struct, frozen=True):
    """Those of an event's properties that have a meaning of ours; the others are passed over."""

    status: Any = None
    bytes: Any = None
    method: Any = None
    duration_ms: Any = None
    path: Any = None


class Measures(NamedTuple):
    """`path` is a path that the properties name, without its query."""

    status: int | None = None
    bytes: int | None = None
    method: str = ""
    duration_ms: float | None = None
    path: str = ""


NO_MEASURES = Measures()
_decoder = msgspec.json.Decoder(_Properties)


def measures_of(properties: msgspec.Raw, notes: list[str]) -> Measures:
    """The measures among an event's properties; one of a wrong type stays a property, and is noted."""
    status, size, method, duration, path = msgspec.structs.astuple(_decoder.decode(properties))
    if status is None and size is None and method is None and duration is None and path is None:
        return NO_MEASURES
    kept_method = method.upper() if isinstance(method, str) else ""
    if len(kept_method) > MAX_METHOD_LENGTH:
        kept_method = cut("method", kept_method, MAX_METHOD_LENGTH, notes)
    return Measures(
        _integer("status", status, MAX_STATUS, notes),
        _integer("bytes", size, MAX_BYTES, notes),
        kept_method,
        _milliseconds(duration, notes),
        path.partition("?")[0] if isinstance(path, str) else "",
    )


def _milliseconds(value: object, notes: list[str]) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_DURATION_MS:
        return float(value)
    notes.append(f"duration_ms: not a number from 0 to {MAX_DURATION_MS}")
    return None


def _integer(name: str, value: object, most: int, notes: list[str]) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    notes.append(f"{name}: not a whole number from 0 to {most}")
    return None
