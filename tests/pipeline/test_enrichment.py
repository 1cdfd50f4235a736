"""What enrichment makes of an event."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID, uuid4

import msgspec
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from core.errors import Misconfigured
from core.events import AcceptedEvent, EnrichedEvent, decode_enriched, decode_raw, encode_enriched, encode_raw
from pipeline.enrichment import geo
from pipeline.enrichment import sources as sources_module
from pipeline.enrichment.batch import enrich_batch
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.enrichment.steps import Steps
from tests.pipeline.builders import NOW_MS, raw_batch

TENANT = UUID("0190b6f0-7e5a-7000-8000-000000000001")
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def key_of(tenant_id: UUID) -> bytes:
    return tenant_id.bytes


NO_GEO = EnrichmentSources(None, key_of)


def enrich(event: dict[str, Any], sources: EnrichmentSources = NO_GEO, **raw: Any) -> EnrichedEvent:
    batch = enrich_batch(raw_batch(raw.pop("tenant_id", TENANT), event, **raw), sources, "self_hosted")
    return batch.events[0]


def test_a_page_view_is_told_apart_into_its_dimensions() -> None:
    event = enrich(
        {
            "context": {
                "ip": "203.0.113.77",
                "user_agent": IPHONE,
                "page_url": "https://www.shop.example/boots/7?utm_source=mail&utm_campaign=may&x=1#top",
                "referrer": "https://www.Google.com/search?q=boots",
                "locale": "de-DE",
            }
        }
    )
    assert (event.page_path, event.referrer_host) == ("/boots/7", "google.com")
    assert event.campaign == {"utm_source": "mail", "utm_campaign": "may"}
    assert (event.device, event.browser, event.os, event.is_bot) == ("mobile", "Mobile Safari", "iOS", False)
    assert event.ip == "203.0.113.0" and event.locale == "de-DE"
    assert event.enrichment_errors == [] and event.enrichment_version == 2


def test_a_page_of_the_same_host_is_no_referrer() -> None:
    context = {"page_url": "https://shop.example/b", "referrer": "https://www.shop.example/a"}
    assert enrich({"context": context}).referrer_host == ""


def test_a_request_has_status_method_bytes_and_duration() -> None:
    properties = {"method": "get", "status": 503, "bytes": 10, "duration_ms": 1.5, "path": "/api/x?secret=1"}
    event = enrich({"type": "http_request", "properties": properties})
    assert (event.status, event.method, event.bytes, event.duration_ms) == (503, "GET", 10, 1.5)
    assert event.page_path == "/api/x"


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({"status": "200"}, "status: not a whole number"),
        ({"status": True}, "status: not a whole number"),
        ({"status": 1000}, "status: not a whole number"),
        ({"bytes": -1}, "bytes: not a whole number"),
        ({"duration_ms": "fast"}, "duration_ms: not a number"),
        ({"duration_ms": -0.1}, "duration_ms: not a number"),
        ({"duration_ms": False}, "duration_ms: not a number"),
    ],
)
def test_a_value_of_the_wrong_type_stays_a_property_and_leaves_its_error(properties: Any, error: str) -> None:
    event = enrich({"properties": properties})
    assert any(found.startswith(error) for found in event.enrichment_errors)
    assert json.loads(event.properties) == properties
    assert event.status is None and event.bytes is None and event.duration_ms is None


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "curl/8.5.0",
        "python-requests/2.32",
        "UptimeProbe/1.0 (monitor)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/142.0.0.0 Safari/537.36",
        "Tiny Tiny RSS/1.11 (http://tt-rss.org/)",
    ],
)
def test_programs_are_marked_as_bots(agent: str) -> None:
    event = enrich({"context": {"user_agent": agent}})
    assert event.is_bot and event.device == "bot"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (IPHONE, "mobile"),
        ("Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Safari/604.1", "tablet"),
        ("Mozilla/5.0 (Linux; Android 15; SM-X910) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36", "tablet"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0", "desktop"),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 Safari/537.36", "tv"),
        ("Mozilla/5.0 (Linux; Android 15; Cubot X90) AppleWebKit/537.36 Chrome/142.0 Mobile Safari/537.36", "mobile"),
        ("something else entirely", ""),
        ("", ""),
    ],
)
def test_devices(agent: str, device: str) -> None:
    event = enrich({"context": {"user_agent": agent}})
    assert (event.device, event.is_bot) == (device, False)


def test_visitors_are_the_user_then_the_anonymous_id_then_the_address_and_agent_of_a_tenant() -> None:
    def visitor(tenant_id: UUID = TENANT, **event: Any) -> int:
        context = {"ip": "203.0.113.77", "user_agent": "x", **event.pop("context", {})}
        return enrich({**event, "context": context}, tenant_id=tenant_id).visitor

    user = visitor(user_id="ada", anonymous_id="1")
    assert user == visitor(user_id="ada", anonymous_id="2", context={"ip": "198.51.100.1"})
    anonymous = visitor(anonymous_id="1")
    assert anonymous == visitor(anonymous_id="1", context={"user_agent": "y"}) != user
    assert visitor(user_id="1") != anonymous
    address = visitor()
    assert address == visitor(session_id="whatever")
    # The whole address counts, though only its network is kept.
    assert address != visitor(context={"ip": "203.0.113.78"})
    assert address != visitor(tenant_id=uuid4())


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "::"),
        ("crawl.example.com", ""),
        ("", ""),
    ],
)
def test_only_the_network_of_an_address_is_kept(address: str, kept: str) -> None:
    event = enrich({"context": {"ip": address}})
    assert event.ip == kept
    assert not address or address not in str(event)


def test_an_event_without_address_and_agent_takes_the_browsers_own() -> None:
    event = enrich({}, client_ip="203.0.113.5", client_user_agent=IPHONE, country="DE")
    assert (event.ip, event.device, event.country) == ("203.0.113.0", "mobile", "DE")
    said = enrich({"context": {"user_agent": "", "ip": "198.51.100.1"}}, client_user_agent=IPHONE, country="DE")
    # What the CDN says is of the connection, not of an address that the event names.
    assert (said.device, said.country) == ("", "")


def test_a_place_comes_from_the_operators_file(tmp_path: Path) -> None:
    path = tmp_path / "geo.mmdb"
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test")
    city = {"names": {"en": "Boxford"}}
    writer.insert_network(
        IPSet(["203.0.113.0/24"]),
        {"country": {"iso_code": "GB"}, "subdivisions": [{"names": {"en": "England"}}], "city": city},
    )
    writer.insert_network(IPSet(["2001:db8::/32"]), {"country_code": "NL", "state1": "Utrecht", "city": "Zeist"})
    writer.to_db_file(str(path))
    sources = EnrichmentSources.open(str(path), key_of)

    def place(ip: str) -> tuple[str, str, str]:
        event = enrich({"context": {"ip": ip}}, sources)
        return event.country, event.region, event.city

    assert place("203.0.113.9") == ("GB", "England", "Boxford")
    assert place("2001:db8::9") == ("NL", "Utrecht", "Zeist")
    assert place("198.51.100.1") == place("nonsense") == ("", "", "")


def test_a_geo_file_that_is_replaced_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "geo.mmdb"

    def write(country: str, moment: int) -> None:
        writer = MMDBWriter(ip_version=4, database_type="Test")
        writer.insert_network(IPSet(["203.0.113.0/24"]), {"country": {"iso_code": country}})
        writer.to_db_file(str(path))
        os.utime(path, (moment, moment))

    write("GB", 1_000_000)
    sources = EnrichmentSources.open(str(path), key_of)
    context = {"ip": "203.0.113.9", "user_agent": IPHONE}
    assert enrich({"context": context}, sources).country == "GB"
    write("NL", 2_000_000)
    assert enrich({"context": context}, sources).country == "GB"
    monkeypatch.setattr(geo, "CHECK_SECONDS", 0.0)
    sources.refresh()
    assert enrich({"context": context}, sources).country == "NL"


def test_clients_that_are_kept_do_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "MAX_CLIENTS", 3)
    sources = EnrichmentSources(None, key_of)
    for n in range(20):
        assert enrich({"context": {"ip": f"192.0.{n}.1", "user_agent": "x"}}, sources).ip == f"192.0.{n}.0"
    assert len(sources.clients) <= 3


def test_a_geo_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "geo.mmdb").write_text("no database")
    with pytest.raises(Misconfigured, match=r"geo\.mmdb"):
        EnrichmentSources.open(str(tmp_path / "geo.mmdb"), key_of)


@pytest.mark.parametrize("broken", [step.name for step in fields(Steps)])
def test_a_step_that_fails_leaves_its_error_on_the_event_and_nothing_private(broken: str) -> None:
    def fail(*asked: object) -> NoReturn:
        raise RuntimeError("unforeseen")

    context = {"ip": "192.0.2.200", "user_agent": IPHONE, "page_url": "https://shop.example/"}
    raw = raw_batch(TENANT, {"user_id": "ada", "session_id": "s", "context": context})
    (event,) = enrich_batch(raw, NO_GEO, "self_hosted", replace(Steps(), **{broken: fail})).events
    assert event.type == "page_view" and event.enrichment_errors == ["fail: RuntimeError"]
    assert "192.0.2.200" not in str(event)


def test_long_text_is_cut_and_says_so() -> None:
    event = enrich({"user_id": "u" * 300, "context": {"page_url": "https://shop.example/" + "p" * 2000}})
    assert len(event.user_id) == 256 and len(event.page_path) <= 512
    assert any("user_id: cut" in error for error in event.enrichment_errors)


def test_events_are_read_whatever_was_refused_beside_them() -> None:
    good, strange = {"type": "a", "properties": {"n": 1}}, {"type": 7, "properties": []}
    body = json.dumps({"events": [strange, good, strange, {**good, "type": "b"}]}).encode()
    accepted = [AcceptedEvent(n, uuid4(), NOW_MS) for n in (1, 3)]
    raw = msgspec.structs.replace(raw_batch(TENANT), accepted=accepted, body=body)
    events = enrich_batch(raw, NO_GEO, "pro").events
    assert [event.type for event in events] == ["a", "b"] and events[0].properties == b'{"n": 1}'
    with pytest.raises(LookupError):
        enrich_batch(msgspec.structs.replace(raw, accepted=[AcceptedEvent(4, uuid4(), NOW_MS)]), NO_GEO, "pro")


def test_batches_come_through_the_log_unchanged() -> None:
    raw = raw_batch(TENANT, {"user_id": "ada"}, {"type": "b"}, client_ip="203.0.113.5")
    assert decode_raw(encode_raw(raw)) == raw
    whole = enrich_batch(raw, NO_GEO, "pro")
    assert decode_enriched(encode_enriched(whole)) == whole
    for length in range(0, len(encode_raw(raw)), 7):
        with pytest.raises(ValueError):
            decode_raw(encode_raw(raw)[:length])


def test_absurd_sizes_and_durations_are_noted_and_not_counted() -> None:
    event = enrich({"properties": {"bytes": 2**50 + 1, "duration_ms": 1e300, "status": 200}})
    assert (event.bytes, event.duration_ms, event.status) == (None, None, 200)
    assert [error.partition(":")[0] for error in event.enrichment_errors] == ["bytes", "duration_ms"]
    assert enrich({"properties": {"bytes": 2**50}}).bytes == 2**50


def test_an_escaped_nul_in_a_campaign_is_replaced() -> None:
    event = enrich({"context": {"page_url": "https://shop.example/?utm_source=a%00b"}})
    assert event.campaign == {"utm_source": "a\ufffdb"}


def test_names_taken_out_of_an_agent_are_bounded() -> None:
    agent = "\U0001f600" * 990 + "/1.2 CFNetwork/1 Darwin/1"
    event = enrich({"context": {"user_agent": agent}})
    assert len(event.browser) <= 100 and len(event.os) <= 100


def test_an_endless_address_is_none() -> None:
    event = enrich({"context": {"ip": "1" * 8000, "user_agent": "x"}})
    assert event.ip == "" and event.enrichment_errors == ["ip: not an address"]
