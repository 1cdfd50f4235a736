"""Generated traffic: the same whenever it is made, believable enough to look at."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from itertools import islice, takewhile

from cloudmetrics.demo.journeys import MINUTE_MS, DemoEvent, Traffic
from cloudmetrics.demo.weather import conditions_at, load_at
from core.validation import Clock, verify_event

MONDAY = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
HOUR, DAY = 3600, 86_400
TRAFFIC = Traffic(0.5, "test")


def between(start: int, seconds: int) -> list[DemoEvent]:
    end_ms = (start + seconds) * 1000
    return list(takewhile(lambda event: event.timestamp_ms < end_ms, TRAFFIC.since(start * 1000)))


def test_events_come_in_order_and_each_once() -> None:
    events = between(MONDAY + 19 * HOUR, 2 * HOUR)
    assert events == sorted(events) and len({event.id for event in events}) == len(events) > 1000


def test_it_goes_on_from_any_moment_as_if_it_had_never_stopped() -> None:
    whole = between(MONDAY + 10 * HOUR, HOUR)
    for moment in (whole[0].timestamp_ms + 1, whole[len(whole) // 2].timestamp_ms):
        rest = [event for event in whole if event.timestamp_ms >= moment]
        assert list(islice(TRAFFIC.since(moment), len(rest))) == rest


def test_rates_and_seeds_are_traffic_of_their_own() -> None:
    def ids(traffic: Traffic) -> set[str]:
        return {event.id for event in traffic.of_minute(MONDAY // 60 + 600)}

    traffics = [Traffic(5, "a"), Traffic(5, "b"), Traffic(6, "a")]
    assert all(ids(one) and not ids(one) & ids(other) for one in traffics for other in traffics if one is not other)


def test_the_rate_is_the_average_of_a_week() -> None:
    minutes = range(MONDAY // 60, (MONDAY + 7 * DAY) // 60, 7)
    count = sum(len(TRAFFIC.of_minute(minute)) for minute in minutes)
    assert 0.9 < count / (len(minutes) * 60) / TRAFFIC.rate < 1.1


def test_evenings_are_busier_than_nights_and_weekends_than_weekdays() -> None:
    assert load_at(MONDAY + 19 * HOUR) > 3 * load_at(MONDAY + 4 * HOUR)
    assert load_at(MONDAY + 5 * DAY + 19 * HOUR) > load_at(MONDAY + 19 * HOUR)


def test_a_week_has_a_release_and_an_incident() -> None:
    releases = [event for m in range(7 * 1440) for event in TRAFFIC.of_minute(MONDAY // 60 + m)
                if event.fields["type"] == "release"]  # fmt: skip
    assert [datetime.fromtimestamp(r.timestamp_ms / 1000, UTC).strftime("%a %H:%M") for r in releases] == ["Tue 14:00"]
    before, after = (conditions_at(MONDAY + DAY + 14 * HOUR + offset).release for offset in (-1, 0))
    assert before != after == releases[0].fields["properties"]["version"]
    incident = between(MONDAY + 3 * DAY + 18 * HOUR + 20 * 60, 40 * 60)
    quiet = between(MONDAY + 2 * DAY + 18 * HOUR + 20 * 60, 40 * 60)
    assert error_share(incident) > 10 * error_share(quiet)


def error_share(events: list[DemoEvent]) -> float:
    statuses = [e.fields["properties"]["status"] for e in events if e.fields["type"] == "http_request"]
    return (sum(status >= 500 for status in statuses) + 0.1) / len(statuses)


def test_every_event_is_valid_and_marked() -> None:
    events = between(MONDAY + 19 * HOUR, HOUR)
    clock = Clock(events[-1].timestamp_ms + MINUTE_MS)
    for event in events:
        assert event.fields["properties"]["demo"] is True
        stamp = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC).isoformat()
        raw = json.dumps({"id": event.id, "timestamp": stamp, **event.fields}).encode()
        assert verify_event(raw, clock).timestamp_ms == event.timestamp_ms  # type: ignore[arg-type]
    kinds = Counter(event.fields["type"] for event in events)
    assert {"page_view", "http_request", "add_to_cart", "purchase", "search"} <= kinds.keys()
    assert kinds["page_view"] > kinds["add_to_cart"] > kinds["purchase"]
