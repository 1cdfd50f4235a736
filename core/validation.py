"""The checks an event passes before the log may hold it; each refusal names field, limit and remedy. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from core.contents import EventRejected, check_contents, too_deep
from core.events import (
    MAX_AHEAD_SECONDS,
    MAX_BEHIND_SECONDS,
    MAX_EVENT_BYTES,
    MAX_TYPE_LENGTH,
    IncomingEvent,
    decode_event,
    epoch_ms,
)

TYPE_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:/$-]*")
_EARLIEST_MS = epoch_ms(datetime(2000, 1, 1, tzinfo=UTC))
# A clock this close is right: correcting it would only add the network's delay to every event.
CLOCK_TOLERANCE_SECONDS = 30
MIN_TIMESTAMP_LENGTH, MAX_TIMESTAMP_LENGTH = 20, 40


@dataclass(frozen=True, slots=True)
class Clock:
    """When a request was received, how far its sender's clock is off, whether it may bring history, and how old that
    may be: what is older than `kept_since_ms` would be dropped at once."""

    received_ms: int
    skew_ms: int = 0
    is_historical: bool = False
    kept_since_ms: int = 0

    @classmethod
    def of(cls, received_ms: int, sent_at: str | None, *, is_historical: bool, kept_since_ms: int = 0) -> Clock:
        """Raises EventRejected when `sent_at` is no timestamp."""
        if sent_at is None:
            return cls(received_ms, 0, is_historical, kept_since_ms)
        skew = received_ms - epoch_ms(parse_timestamp(sent_at, "sent_at"))
        skew = skew if abs(skew) > CLOCK_TOLERANCE_SECONDS * 1000 else 0
        return cls(received_ms, skew, is_historical, kept_since_ms)

    @property
    def latest_ms(self) -> int:
        """The last moment that is taken."""
        return self.received_ms + MAX_AHEAD_SECONDS * 1000

    def earliest_ms(self, *, is_historical: bool) -> int:
        """The first moment that is taken."""
        behind = _EARLIEST_MS if is_historical else self.received_ms - MAX_BEHIND_SECONDS * 1000
        return max(behind, self.kept_since_ms)


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """An event that may be logged; `id` is None when the sender gave none."""

    event: IncomingEvent
    id: UUID | None
    timestamp_ms: int


def verify_event(raw: msgspec.Raw, clock: Clock) -> VerifiedEvent:
    """Decodes and checks one event.

    Raises:
        EventRejected: with code, field and message.
    """
    event = checked_event(raw)
    check_type(event.type)
    return VerifiedEvent(
        event,
        checked_id(event.id),
        checked_timestamp(event.timestamp, clock, is_historical=event.historical or clock.is_historical),
    )


def checked_event(raw: msgspec.Raw) -> IncomingEvent:
    """One event of good size, contents and shape; same errors."""
    size = len(memoryview(raw))
    if size > MAX_EVENT_BYTES:
        raise EventRejected("event_too_large", "", f"The event has {size} bytes; at most {MAX_EVENT_BYTES} are taken.")
    check_contents(bytes(raw))
    return _decoded(raw)


def _decoded(raw: msgspec.Raw) -> IncomingEvent:
    try:
        return decode_event(raw)
    except msgspec.ValidationError as error:
        text = str(error)
        reason, _, path = text.partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".")
        code = "number_out_of_range" if "out of range" in reason else "wrong_type"
        if "missing required field" in reason:
            code, field = "missing_field", reason.split("`")[1]
        raise EventRejected(code, field, f"{reason}; see the event's shape in the README.") from None
    except msgspec.DecodeError as error:
        raise EventRejected("invalid_unicode", "", f"The event is not valid JSON in UTF-8: {error}.") from None
    except UnicodeDecodeError:
        raise EventRejected("invalid_unicode", "", "The event is not valid UTF-8.") from None
    except RecursionError:
        raise too_deep() from None


def check_type(text: str) -> None:
    """Raises EventRejected unless it is the name of a type."""
    if len(text) > MAX_TYPE_LENGTH or not TYPE_PATTERN.fullmatch(text):
        raise EventRejected(
            "invalid_name",
            "type",
            f"type must be 1 to {MAX_TYPE_LENGTH} letters, digits, spaces or _ . : / $ -, beginning with a letter, "
            "digit or _.",
        )


def checked_id(text: str | None) -> UUID | None:
    """An event's id; raises EventRejected when it is no UUID."""
    if text is None:
        return None
    try:
        if len(text) in (32, 36):
            return UUID(text)
    except ValueError:
        pass
    raise EventRejected("invalid_id", "id", "id must be a UUID, such as 0190b6f0-7e5a-7000-8000-2f1d8f6f4a11.")


def parse_timestamp(text: str, field: str) -> datetime:
    """A moment from RFC 3339 text with a zone.

    Raises:
        EventRejected: not of that form.
    """
    try:
        if MIN_TIMESTAMP_LENGTH <= len(text) <= MAX_TIMESTAMP_LENGTH:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise EventRejected(
        "timestamp_out_of_range",
        field,
        f"{field} must be RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, between the years 2000 and 9999.",
    )


def checked_timestamp(text: str | None, clock: Clock, *, is_historical: bool) -> int:
    """Epoch milliseconds by our clock; raises EventRejected when it is no timestamp, or one that is not taken."""
    if text is None:
        return clock.received_ms
    # History was written by another clock than the one that sends it; and sent again, it must be the same moment.
    moment = epoch_ms(parse_timestamp(text, "timestamp")) + (0 if is_historical else clock.skew_ms)
    if moment > clock.latest_ms:
        raise EventRejected(
            "timestamp_out_of_range",
            "timestamp",
            f"timestamp is more than {MAX_AHEAD_SECONDS} s ahead of the server's clock; send `sent_at` beside "
            "`events` to have a wrong clock corrected.",
        )
    if is_historical:
        if moment < _EARLIEST_MS:
            raise EventRejected("timestamp_out_of_range", "timestamp", "timestamp is before the year 2000.")
    elif moment < clock.received_ms - MAX_BEHIND_SECONDS * 1000:
        raise EventRejected(
            "timestamp_out_of_range",
            "timestamp",
            f"timestamp is more than {MAX_BEHIND_SECONDS // 86400} days back; set `historical`: true beside `events` "
            "to send older ones.",
        )
    if moment < clock.kept_since_ms:
        since = datetime.fromtimestamp(clock.kept_since_ms / 1000, UTC).date()
        raise EventRejected(
            "timestamp_out_of_range",
            "timestamp",
            f"timestamp is before {since}, and this tenant's events of such days are dropped; a higher tier, or the "
            "operator's CLOUDMETRICS_RETENTION_DAYS, keeps them longer.",
        )
    return moment
