"""Lines of real servers, one by one."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmetrics.importing.access_log import LogLine, Unreadable, parse_line
from cloudmetrics.importing.identity import LineIds, Sessions
from cloudmetrics.importing.reading import MAX_LINE_BYTES, read_lines
from core.errors import Misconfigured

COMBINED = (
    b'83.149.9.216 - frank [17/May/2015:10:05:03 +0000] "GET /a%20b?q=1 HTTP/1.1" 200 203023 '
    b'"http://semicomplete.com/presentations/" "Mozilla/5.0 (X11) Gecko/20100101"'
)


def test_a_combined_line() -> None:
    assert parse_line(COMBINED) == LogLine(
        host="83.149.9.216",
        moment=datetime(2015, 5, 17, 10, 5, 3, tzinfo=UTC),
        method="GET",
        path="/a%20b?q=1",
        protocol="HTTP/1.1",
        status=200,
        bytes=203023,
        referrer="http://semicomplete.com/presentations/",
        agent="Mozilla/5.0 (X11) Gecko/20100101",
    )


def line(
    host: str = "10.0.0.1",
    request: str = "GET / HTTP/1.1",
    tail: str = '200 5 "-" "curl"',
    time: str = "01/Jan/2026:00:00:00 +0100",
) -> bytes:
    return f'{host} - - [{time}] "{request}" {tail}'.encode("latin-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(line(tail="304 -"), {"status": 304, "bytes": None, "agent": ""}, id="common format"),
        pytest.param(line(host="shop.example:443 10.0.0.1"), {"host": "10.0.0.1"}, id="vhost_combined"),
        pytest.param(line(host="2001:db8::1"), {"host": "2001:db8::1"}, id="IPv6"),
        pytest.param(line(host="[2001:db8::9]:443 2001:db8::1"), {"host": "2001:db8::1"}, id="IPv6 on both sides"),
        pytest.param(line(host="crawl.example.com"), {"host": "crawl.example.com"}, id="resolved host name"),
        pytest.param(line() + b' "-" rt=0.004', {"agent": "curl"}, id="nginx with fields after the agent"),
        pytest.param(line(tail='200 5 "-" ""'), {"agent": "", "referrer": ""}, id="empty agent"),
        pytest.param(line(tail='200 5 "-" "-"'), {"agent": ""}, id="no agent"),
        pytest.param(line(tail='200 5 "-" "Mozilla/5.0 (X11; Lin'), {"agent": "Mozilla/5.0 (X11; Lin"}, id="cut agent"),
        pytest.param(line(tail='200 5 "-"'), {"agent": "", "bytes": 5}, id="cut before the agent"),
        pytest.param(line(tail=r'200 5 "-" "a \"quoted\" \\ name"'), {"agent": r'a "quoted" \ name'}, id="quotes"),
        pytest.param(line(request=r"GET /\"x\" HTTP/1.0"), {"path": '/"x"', "protocol": "HTTP/1.0"}, id="quoted path"),
        pytest.param(line(tail=r'200 5 "-" "caf\xc3\xa9"'), {"agent": "café"}, id="escaped UTF-8"),
        pytest.param(line(tail=r'200 5 "-" "\xff\x00"'), {"agent": "\ufffd\ufffd"}, id="escaped bytes of no text"),
        pytest.param(line(tail='200 5 "-" "caf\xe9"'), {"agent": "caf\ufffd"}, id="Latin-1"),
        pytest.param(line(request=r"\x16\x03\x01"), {"method": "", "path": "\x16\x03\x01"}, id="TLS to a plain port"),
        pytest.param(line(request="-", tail='408 - "-" "-"'), {"path": "", "status": 408}, id="no request"),
        pytest.param(line(request=""), {"path": "", "method": ""}, id="empty request"),
        pytest.param(line(request="GET /a b HTTP/1.1"), {"path": "/a b"}, id="space in the path"),
        pytest.param(line(request="GET /"), {"path": "/", "protocol": ""}, id="HTTP/0.9"),
        pytest.param(line(request="OPTIONS *"), {"method": "OPTIONS", "path": "*"}, id="OPTIONS"),
        pytest.param(
            line(time="31/Dec/2025:23:00:00 -0130"), {"moment": datetime(2026, 1, 1, 0, 30, tzinfo=UTC)}, id="zone"
        ),
        pytest.param(
            b'10.0.0.1 - a [b] c [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 5', None, id="bracket in the user"
        ),
    ],
)
def test_a_line_of_another_kind(text: bytes, expected: dict[str, object] | None) -> None:
    if expected is None:
        with pytest.raises(Unreadable):
            parse_line(text)
        return
    parsed = parse_line(text)
    assert {name: getattr(parsed, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty line"),
        (b"   ", "empty line"),
        (b"hello", r"no \[time\]"),
        (line(time="2026-01-01T00:00:00Z"), "no time of the form"),
        (line(time="32/Jan/2026:00:00:00 +0000"), "no such time"),
        (line(time="01/Foo/2026:00:00:00 +0000"), "no time of the form"),
        (b'10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HT', 'no "request"'),
        (line(tail="ok"), 'no "request"'),
        (b'{"remote_addr":"10.0.0.1","status":200}', r"no \[time\]"),
    ],
)
def test_a_broken_line_says_what_is_missing(text: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        parse_line(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for candidate in (text, COMBINED[:60] + text, COMBINED + text):
        try:
            parse_line(candidate)
        except Unreadable:
            continue


def test_a_long_line_of_backslashes_takes_no_time() -> None:
    parsed = parse_line(line(tail='200 5 "-" "' + "\\" * 60_000))
    assert parsed.agent


def test_equal_lines_are_told_apart_by_occurrence_and_the_same_file_gives_the_same_ids() -> None:
    lines = [b"a", b"b", b"a", b"a"]
    first = [LineIds("s").next_id(text) for text in lines[:1]]
    ids = LineIds("s")
    made = [ids.next_id(text) for text in lines]
    again = LineIds("s")
    assert made == [again.next_id(text) for text in lines]
    assert len(set(made)) == 4 and made[0] == first[0]
    assert {(UUID(id).version, UUID(id).variant) for id in made} == {(8, RFC_4122)}
    other = LineIds("another server")
    assert not set(made) & {other.next_id(text) for text in lines}


def test_a_session_ends_after_thirty_minutes_of_silence() -> None:
    sessions = Sessions()

    def at(minute: int, agent: str = "x") -> str:
        return sessions.session_of("10.0.0.1", agent, datetime(2026, 1, 1, minute // 60, minute % 60, tzinfo=UTC))

    start = at(0)
    assert at(30) == start and at(60) == start
    assert at(30, "y") != start
    assert at(91) != start


def test_files_are_read_plain_and_packed_with_a_bound_on_a_line(tmp_path: Path) -> None:
    content = b"one\r\ntwo\n" + b"x" * (MAX_LINE_BYTES + 10) + b"\nlast"
    (tmp_path / "a.log").write_bytes(content)
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(content))
    for name in ("a.log", "a.log.gz"):
        lines = list(read_lines(str(tmp_path / name)))
        assert [(found.number, found.is_too_long) for found in lines] == [(1, False), (2, False), (3, True), (4, False)]
        assert [lines[n].text for n in (0, 1, 3)] == [b"one", b"two", b"last"]


def test_broken_and_missing_files_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(COMBINED * 1000)[:-20])
    for name in ("cut.gz", "missing.log"):
        with pytest.raises(Misconfigured, match=name):
            list(read_lines(str(tmp_path / name)))
