"""Requests that share a connection: each gets its own answers, whatever happens to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.exceptions import ResponseError

from core.seen import SLOT_SECONDS, SeenIds
from core.settings import Settings
from core.topics import seen_key
from core.valkey import VALKEY_AWAY, open_valkey
from core.valkey_turns import Turns, command, parts
from tests.conftest import free_port


@pytest.fixture
async def turns(settings: Settings) -> AsyncIterator[Turns]:
    turns = Turns(settings.redis_url, seconds=5.0)
    yield turns
    await turns.close()


def echo(text: str) -> bytes:
    return command((b"ECHO", text.encode()))


async def test_everyone_gets_the_answers_to_what_was_asked(turns: Turns) -> None:
    answers = await asyncio.gather(*[turns.ask(echo(f"{n}"), echo(f"{n}-again")) for n in range(200)])
    assert answers == [[b"%d" % n, b"%d-again" % n] for n in range(200)]


async def test_what_comes_while_a_turn_is_under_way_goes_out_together(turns: Turns, settings: Settings) -> None:
    async def reads() -> int:
        client = open_valkey(settings.redis_url, seconds=5.0)
        found = (await client.info("stats"))["total_reads_processed"]
        await client.aclose()
        return int(found)

    await turns.ask(echo("connect"))
    before = await reads()
    await asyncio.gather(*[turns.ask(echo("x")) for _ in range(300)])
    assert await reads() - before < 50


async def test_a_refusal_is_that_of_the_one_who_asked(turns: Turns) -> None:
    key = f"test:{uuid4()}".encode()
    await turns.ask(command((b"SET", key, b"text")))
    good, bad, also_good = await asyncio.gather(
        turns.ask(echo("a")),
        turns.ask(command((b"SADD", key, b"member")), echo("b")),
        turns.ask(echo("c")),
        return_exceptions=True,
    )
    assert (good, also_good) == ([b"a"], [b"c"])
    assert isinstance(bad, ResponseError) and "WRONGTYPE" in str(bad)


async def test_one_who_no_longer_waits_takes_nothing_from_the_others(turns: Turns) -> None:
    gone = asyncio.create_task(turns.ask(echo("gone")))
    stays = asyncio.create_task(turns.ask(echo("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [b"stays"]
    assert await turns.ask(echo("later")) == [b"later"]


async def test_a_connection_that_was_closed_is_made_anew(turns: Turns, settings: Settings) -> None:
    [number] = await turns.ask(command((b"CLIENT", b"ID")))
    client = open_valkey(settings.redis_url, seconds=5.0)
    await client.execute_command("CLIENT", "KILL", "ID", number)
    await client.aclose()
    assert await turns.ask(echo("again")) == [b"again"]


async def test_a_server_that_is_not_there_is_told_to_all_and_looked_for_again() -> None:
    turns = Turns(f"redis://127.0.0.1:{free_port()}/0", seconds=1.0)
    answers = await asyncio.gather(*[turns.ask(echo("x")) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(answer, VALKEY_AWAY) for answer in answers)
    with pytest.raises(VALKEY_AWAY):
        await turns.ask(echo("x"))
    await turns.close()


async def test_whoever_waits_when_it_is_closed_is_told(turns: Turns) -> None:
    asked = [asyncio.create_task(turns.ask(command((b"BLPOP", uuid4().bytes, b"30")))) for _ in range(2)]
    await asyncio.sleep(0.05)
    await turns.close()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, ConnectionError)


async def test_ids_that_were_noted_are_found_in_this_slot_and_the_last(settings: Settings) -> None:
    seen, tenant, other = SeenIds(settings.redis_url), uuid4(), uuid4()
    ids = [str(uuid4()) for _ in range(100)]
    assert await seen.find(tenant, ids) == set()
    await seen.note(tenant, ids[:60])
    assert await seen.find(tenant, ids) == set(ids[:60])
    assert await seen.find(other, ids) == set()
    client = open_valkey(settings.redis_url, seconds=5.0)
    [key] = [key async for key in client.scan_iter(match=seen_key(tenant, 0)[:-1] + "*")]
    assert 0 < await client.ttl(key) <= 2 * SLOT_SECONDS
    slot = int(key.decode().rpartition(":")[2])
    await client.rename(key, seen_key(tenant, slot - 1))
    assert await seen.find(tenant, ids) == set(ids[:60])
    await client.aclose()
    await seen.close()


def test_arguments_are_written_as_the_protocol_has_them() -> None:
    written = command((b"SADD", b"key"), parts(b"aabbcc", 2), 3)
    assert written == b"*5\r\n$4\r\nSADD\r\n$3\r\nkey\r\n$2\r\naa\r\n$2\r\nbb\r\n$2\r\ncc\r\n"
