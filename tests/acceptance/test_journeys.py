"""Sessions and paths of a real server's log, beside what a few lines that share nothing with the product count."""

from __future__ import annotations

import gzip
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from tests.acceptance.test_main_job import LOG, RANGE
from tests.conftest import Instance

pytestmark = pytest.mark.slow

LINE = re.compile(
    r'(?P<host>\S+) \S+ \S+ \[(?P<time>[^]]+)] "\S+ (?P<path>[^ ?]+).*?" \d+ \S+ ".*?" "(?P<agent>.*?)"?$'
)
XDOTOOL, SSH = "/projects/xdotool/", "/articles/ssh-security/"
DNS, PUPPET = "/articles/dynamic-dns-with-dhcp/", "/blog/tags/puppet"
PAGES = ["/", XDOTOOL, SSH, DNS, PUPPET]
ENDED = ""

Visit = list[tuple[datetime, str]]


def read_independently() -> list[Visit]:
    """Each session of the log as its (time, path): an address and agent with no pause of over 30 minutes."""
    visits: defaultdict[tuple[str, str, int], Visit] = defaultdict(list)
    last: dict[tuple[str, str], tuple[int, datetime]] = {}
    with gzip.open(LOG, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            found = LINE.match(line.rstrip("\n"))
            assert found, line
            moment = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
            visitor = (found["host"], found["agent"])
            number, before = last.get(visitor, (0, moment))
            number += moment - before > timedelta(minutes=30)
            last[visitor] = (number, max(before, moment))
            visits[*visitor, number].append((moment, found["path"]))
    return [sorted(visit, key=lambda event: event[0]) for visit in visits.values()]


@pytest.fixture(scope="module")
def imported(instance: Instance) -> Instance:
    assert "10,000 accepted" in instance.cli("import", "access-log", str(LOG)).stdout
    return instance


def ask(instance: Instance, text: str, **variables: Any) -> Any:
    answer = httpx2.post(
        f"{instance.url}/graphql",
        json={"query": text, "variables": variables},
        headers={"Authorization": f"Bearer {instance.secret_key}"},
        timeout=30,
    ).json()
    assert "errors" not in answer, answer
    return answer["data"]


def test_sessions_of_a_log_are_those_counted_by_hand(imported: Instance) -> None:
    query = """query($q: SessionsQuery!) { sessions(query: $q) {
        totals { count events bounces meanDuration medianDuration } entryPages { page count } exitPages { page count }
        buckets { totals { count } } strayEvents isComplete } }"""
    question = {"range": RANGE, "interval": "DAY", "includeBots": True, "limit": 5}
    found = ask(imported, query, q=question)["sessions"]
    visits = read_independently()
    seconds = [(visit[-1][0] - visit[0][0]).total_seconds() for visit in visits]
    totals = found["totals"]
    assert (totals["count"], totals["events"]) == (len(visits), 10_000) == (3224, 10_000)
    assert totals["bounces"] == sum(len(visit) == 1 for visit in visits) == 1775
    assert totals["meanDuration"] == pytest.approx(sum(seconds) / len(seconds)) == pytest.approx(15.142, abs=0.001)
    assert totals["medianDuration"] == 0
    days = Counter(visit[0][0].day for visit in visits)
    assert [bucket["totals"]["count"] for bucket in found["buckets"]] == [days[day] for day in (17, 18, 19, 20)]
    assert found["strayEvents"] == 0 and found["isComplete"]
    for pages, place, by_hand in (("entryPages", 0, (427, 428)), ("exitPages", -1, (432, 436))):
        # Events of one second are in no order that the log would tell: a page is the first for sure, or may be.
        ends = [{path for moment, path in visit if moment == visit[place][0]} for visit in visits]
        at_least, at_most = sum(end == {"/"} for end in ends), sum("/" in end for end in ends)
        assert (at_least, at_most) == by_hand
        assert found[pages][0]["page"] == "/" and at_least <= found[pages][0]["count"] <= at_most
        assert sum(page["count"] for page in found[pages]) == len(visits)


def test_what_visitors_of_a_log_do_after_the_first_page_is_what_was_counted_by_hand(imported: Instance) -> None:
    query = """query($q: PathsQuery!) { paths(query: $q) { total nodes { id level kind step count }
        links { source target count } } }"""
    chosen = {"conditions": [{"dimension": "page_path", "op": "IN", "values": PAGES}]}
    question = {"range": RANGE, "anchor": "/", "depth": 1, "includeBots": True, "events": chosen}
    found = ask(imported, query, q=question)["paths"]
    after: Counter[str] = Counter()
    for visit in read_independently():
        pages = [(moment, path) for moment, path in visit if path in PAGES]
        assert all(a[0] < b[0] or a[1] == b[1] for a, b in pairwise(pages)), "their order must be told by the log"
        steps = [path for _, path in pages]
        steps = [path for n, path in enumerate(steps) if n == 0 or steps[n - 1] != path]
        if "/" in steps:
            after[[*steps, ENDED][steps.index("/") + 1]] += 1
    assert found["total"] == sum(after.values()) == 529
    assert {node["step"]: node["count"] for node in found["nodes"] if node["level"] == 1} == after
    assert (after[SSH], after[XDOTOOL], after[DNS]) == (14, 2, 1)
    assert len(found["links"]) == len(after)


def test_a_session_of_the_list_has_its_events(imported: Instance) -> None:
    query = """query($q: SessionsQuery!) { tenant { visitorSessions(query: $q, first: 1) { edges { node {
        sessionId visitor startedAt endedAt events } } } } }"""
    having = {"conditions": [{"dimension": "page_path", "op": "EQ", "values": [XDOTOOL]}]}
    ((session,),) = (
        [edge["node"] for edge in page["edges"]]
        for page in ask(imported, query, q={"range": RANGE, "having": having})["tenant"].values()
    )
    query = (
        "query($f: EventFilter) { tenant { events(filter: $f, first: 100) { edges { node { pagePath visitor } } } } }"
    )
    events = ask(imported, query, f={"sessionId": session["sessionId"], "visitor": session["visitor"]})
    paths = [edge["node"]["pagePath"] for edge in events["tenant"]["events"]["edges"]]
    assert len(paths) == session["events"] and XDOTOOL in paths


def test_properties_of_a_log_and_their_values_are_found(imported: Instance) -> None:
    query = """query($r: TimeRange) { tenant {
        eventProperties(range: $r, search: "M") { properties { name count types { type } } eventsRead }
        topValues(field: "properties.method", range: $r) { values { value count } eventsRead source } } }"""
    found = ask(imported, query, r=RANGE)["tenant"]
    (method,) = found["eventProperties"]["properties"]
    assert method == {"name": "properties.method", "count": 5000, "types": [{"type": "STRING"}]}
    assert found["eventProperties"]["eventsRead"] == found["topValues"]["eventsRead"] == 5000
    counts = {value["value"]: value["count"] for value in found["topValues"]["values"]}
    assert counts["GET"] > 4900 and sum(counts.values()) == 5000
    query = 'query($r: TimeRange) { tenant { topValues(field: "status", range: $r) { values { value count } } } }'
    values = ask(imported, query, r=RANGE)["tenant"]["topValues"]["values"]
    assert [(value["value"], value["count"]) for value in values[:3]] == [("200", 9126), ("304", 445), ("404", 213)]
