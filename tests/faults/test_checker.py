"""The checker is tested first: what is removed, doubled or changed by hand is found, and named."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.database import as_owner
from core.topics import hot_values_key
from core.valkey import open_valkey
from tests.faults.campaign import hold, in_temp_folder
from tests.faults.checker import Kind, Verdict, check
from tests.faults.installation import Installation, Member
from tests.faults.journal import Journal, Sent, read_journals
from tests.faults.load import Ending, Sender
from tests.faults.stores import Held
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.slow

ONE_ROW = "SELECT id FROM events WHERE tenant_id = $1 ORDER BY id LIMIT 1"
REMOVE_ROW = "DELETE FROM events WHERE tenant_id = $1 AND id = $2"
DOUBLE_ROW = """
CREATE TEMP TABLE one AS SELECT * FROM events WHERE id = '{id}';
UPDATE one SET ts = ts + interval '1 millisecond';
INSERT INTO events SELECT * FROM one
"""
# The highest id there is, so that a row picked by ONE_ROW afterwards is one that was sent.
STRANGE_ROW = DOUBLE_ROW.replace("SET ts", "SET id = 'ffffffff-ffff-ffff-ffff-ffffffffffff', ts")
CHANGED_ROW = "UPDATE events SET bytes = coalesce(bytes, 0) + 1 WHERE tenant_id = $1 AND id = $2"
ADD_TO_CELL = """
UPDATE {table} SET {column} = {column} + $2 WHERE ctid = (
    SELECT ctid FROM {table} WHERE tenant_id = $1 AND dimension = $3 AND type = 'http_request' AND count > 1
    ORDER BY count DESC LIMIT 1
) AND tenant_id = $1
"""
ADD_TO_USAGE = "UPDATE daily_usage SET accepted = accepted + $2 WHERE tenant_id = $1"
ADD_TO_COUNTS = """
UPDATE ingest_1h SET count = count + $2 WHERE (tenant_id, outcome, bucket, reason, key_id) = (
    SELECT tenant_id, outcome, bucket, reason, key_id FROM ingest_1h
    WHERE tenant_id = $1 AND outcome = 'accepted' LIMIT 1
)
"""


class Proof:
    """An installation with a tenant whose few events are all counted, and a way to spoil one store at a time."""

    def __init__(self, site: Installation, member: Member, sent: Sent) -> None:
        self.site, self.member, self.sent = site, member, sent
        self.good = hold(site, member, sent)

    def verdict(self, held: Held | None = None) -> Verdict:
        return check(self.sent, held or hold(self.site, self.member, self.sent))

    def spoil(self, statement: str, *arguments: Any) -> None:
        asyncio.run(self._spoil(statement, arguments))

    async def _spoil(self, statement: str, arguments: tuple[Any, ...]) -> None:
        async with as_owner(self.site.folder.database_url("superuser")) as connection:
            if "{id}" in statement:
                found = await connection.fetchval(ONE_ROW, self.member.tenant.id)
                await connection.execute(statement.format(id=found))
            elif statement in (REMOVE_ROW, CHANGED_ROW):
                found = await connection.fetchval(ONE_ROW, self.member.tenant.id)
                await connection.execute(statement, self.member.tenant.id, found)
            else:
                await connection.execute(statement, self.member.tenant.id, *arguments)


def send_some(site: Installation, member: Member, file: Path) -> Sent:
    traffic, sender = Traffic(random.Random(7), time.time()), Sender(site.url, member.key, Journal(file))
    for number in range(6):
        sender.send(number, traffic.batch(), lambda: True)
    sender.close()
    return read_journals([file])


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with in_temp_folder() as temp:
        site = Installation("valkey", Path(temp))
        try:
            site.open()
            yield site
        finally:
            site.close()


@pytest.fixture
def proof(site: Installation, tmp_path: Path) -> Proof:
    member = site.new_member()
    sent = send_some(site, member, tmp_path / "journal.jsonl")
    assert site.drain(60)
    proof = Proof(site, member, sent)
    assert proof.verdict().findings == [] and proof.verdict().acknowledged > 50
    return proof


def places(verdict: Verdict, kind: Kind) -> set[str]:
    return {finding.place for finding in verdict.findings if finding.kind is kind}


def test_a_removed_row_is_lost_by_name(proof: Proof) -> None:
    proof.spoil(REMOVE_ROW)
    verdict = proof.verdict()
    gone = next(finding.what for finding in verdict.findings if finding.place == "events")
    assert gone in proof.sent.acknowledged and verdict.number(Kind.LOST) == 1
    assert "events" in places(verdict, Kind.LOST)


def test_a_doubled_row_is_duplicated_by_name(proof: Proof) -> None:
    proof.spoil(DOUBLE_ROW)
    verdict = proof.verdict()
    assert [f.what for f in verdict.findings if f.place == "events"][0] in proof.sent.acknowledged
    assert "events" in places(verdict, Kind.DUPLICATED) and verdict.number(Kind.DUPLICATED) == 1


def test_a_row_nobody_sent_and_a_changed_one_are_unexpected(proof: Proof) -> None:
    proof.spoil(STRANGE_ROW)
    assert "events" in places(proof.verdict(), Kind.UNEXPECTED)
    proof.spoil(CHANGED_ROW)
    texts = [finding.what for finding in proof.verdict().findings if finding.place == "events"]
    assert any("never sent" in text for text in texts) and any("not as it was sent: bytes" in text for text in texts)


@pytest.mark.parametrize("table", ["rollup_1m", "rollup_5m", "rollup_1h"])
def test_a_cell_that_is_off_is_found_both_ways(proof: Proof, table: str) -> None:
    for dimension, place in [("", "total"), ("status", "status"), ("device", "device")]:
        proof.spoil(ADD_TO_CELL.format(table=table, column="count"), 1, dimension)
        assert f"{table} {place}" in places(proof.verdict(), Kind.DUPLICATED)
        proof.spoil(ADD_TO_CELL.format(table=table, column="count"), -2, dimension)
        assert f"{table} {place}" in places(proof.verdict(), Kind.LOST)


def test_a_sum_that_is_off_is_found(proof: Proof) -> None:
    for column in ("errors", "bytes", "duration_count", "duration_sum"):
        proof.spoil(ADD_TO_CELL.format(table="rollup_1h", column=column), 1, "")
        found = [finding.what for finding in proof.verdict().findings if finding.place == "rollup_1h total"]
        assert any(column in what for what in found)


def test_usage_that_is_off_is_found_both_ways(proof: Proof) -> None:
    proof.spoil(ADD_TO_USAGE, 1)
    assert places(proof.verdict(), Kind.DUPLICATED) == {"daily_usage"}
    proof.spoil(ADD_TO_USAGE, -2)
    assert places(proof.verdict(), Kind.LOST) == {"daily_usage"}


def test_counts_of_ingest_that_are_off_are_found_both_ways(proof: Proof) -> None:
    proof.spoil(ADD_TO_COUNTS, 1)
    assert places(proof.verdict(), Kind.DUPLICATED) == {"ingest_1h"}
    proof.spoil(ADD_TO_COUNTS, -2)
    assert places(proof.verdict(), Kind.LOST) == {"ingest_1h"}


def test_a_hot_value_that_is_gone_or_doubled_is_found(proof: Proof) -> None:
    key = hot_values_key(proof.member.tenant.id, "http_request")

    async def double_and_remove() -> tuple[Verdict, Verdict]:
        client = open_valkey(proof.site.direct.redis_url, seconds=2.0, connections=1)
        try:
            values: Any = await client.hgetall(key)
            member, value = sorted(values.items())[-1]
            minute, bot, shard = member.decode().split(":")
            twin = f"{minute}:{bot}:{int(shard) + 1}"
            await client.hset(key, twin, value)
            await client.zadd(key.replace("hot-values", "hot"), {twin: int(minute)})
            doubled = await asyncio.to_thread(proof.verdict)
            await client.hdel(key, twin, member)
            return doubled, await asyncio.to_thread(proof.verdict)
        finally:
            await client.aclose()

    doubled, removed = asyncio.run(double_and_remove())
    assert places(doubled, Kind.DUPLICATED) == {"hot sets"}
    assert places(removed, Kind.LOST) == {"hot sets"}


def test_an_answer_that_is_off_is_found(proof: Proof) -> None:
    for name, answer in proof.good.answers.items():
        line = answer[0]
        spoilt = [{**line, "total": line["total"] * 1.5 + 2}, *answer[1:]]
        verdict = proof.verdict(replace(proof.good, answers={**proof.good.answers, name: spoilt}))
        assert {finding.place for finding in verdict.findings} == {f"GraphQL {name}"}


def test_what_nobody_was_told_of_may_be_there_or_not(proof: Proof) -> None:
    told = sorted(proof.sent.acknowledged)[0]
    untold = Sent(proof.sent.events, proof.sent.acknowledged - {told}, {told})
    verdict = check(untold, proof.good)
    assert verdict.is_good and verdict.recovered == 1


def test_a_refused_event_that_is_there_is_unexpected(proof: Proof) -> None:
    refused = sorted(proof.sent.acknowledged)[0]
    verdict = check(Sent(proof.sent.events, proof.sent.acknowledged - {refused}, set()), proof.good)
    assert any(refused in finding.what for finding in verdict.findings if finding.kind is Kind.UNEXPECTED)


def test_a_journal_tells_acknowledged_from_unknown_and_refused(tmp_path: Path) -> None:
    events = [{"id": name} for name in ("kept", "refused", "open")]
    journal = Journal(tmp_path / "journal")
    for number, (code, taken) in enumerate([(202, [("kept", "accepted")]), (429, []), (503, [])]):
        journal.attempt(number, [events[number]])
        journal.outcome(number, code, taken)
    sent = read_journals([tmp_path / "journal"])
    assert (sent.acknowledged, sent.unknown) == ({"kept"}, {"open"})
    assert sent.events.keys() == {"kept", "refused", "open"}
    # An attempt that was refused does not close the one before it.
    journal.attempt(2, None)
    journal.outcome(2, 429, [])
    assert read_journals([tmp_path / "journal"]).unknown == {"open"}


def test_a_client_that_was_told_to_stop_goes_on_only_for_a_while() -> None:
    ending = Ending()
    assert ending.is_before(time.monotonic() + 1000)
    ending.at = time.monotonic() - 1000
    assert not ending.is_before(time.monotonic() + 1000)
