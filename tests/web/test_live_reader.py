"""Many sockets read one stream: what is told is made once, whoever does not read holds nobody up and gets a GAP and the
whole, and nothing runs for a reader that waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from graphql.execution import Executor
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import Columns, Series
from query.frames import FrameKind, Shown
from resolvers import live_log
from resolvers.live_stream import LiveStream
from tests.conftest import make_key
from tests.web.serving import Serving, serving, until
from web import graphql_connection
from web.socket_protocol import SocketProtocol

QUESTION = {"metric": "events", "range": {"last": "1h"}, "interval": "MINUTE"}
WHOLE = "subscription($q: MetricQuery!, $r: String) { series(query: $q, resumeFrom: $r) { kind seq cursor columns } }"
SHORT = "subscription($q: MetricQuery!) { series(query: $q) { kind seq } }"
LARGE = [float(n) for n in range(50_000)]
# Of them, more than the buffers on both sides of a socket take.
FRAMES = 16


class Site:
    """The server, and sockets that have said who they are."""

    def __init__(self, web: Serving, secret: str, stack: AsyncExitStack) -> None:
        self.web = web
        self.secret = secret
        self._stack = stack

    async def socket(self, **options: Any) -> ClientConnection:
        url = self.web.url.replace("http", "ws", 1) + "/graphql"
        opening = connect(url, subprotocols=["graphql-transport-ws"], max_size=None, **options)  # type: ignore[list-item]
        socket = await self._stack.enter_async_context(opening)
        payload = {"authorization": f"Bearer {self.secret}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert await message(socket) == {"type": "connection_ack"}
        return socket

    async def reader(self, id: str, document: str = WHOLE, **options: Any) -> ClientConnection:
        """A socket that has had its snapshot."""
        socket = await self.socket(**options)
        await subscribe(socket, id, document)
        assert (await frame(socket, id))["kind"] == "SNAPSHOT"
        return socket

    def stream(self) -> LiveStream:
        """The one stream that runs."""
        (stream,) = self.web.services.hub.streams()
        return stream


@pytest.fixture
async def site(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Site]:
    _, secret = await make_key(database, settings, tenant)
    async with serving(settings) as web, AsyncExitStack() as stack:
        yield Site(web, secret, stack)


async def message(socket: ClientConnection) -> Any:
    async with asyncio.timeout(30):
        return json.loads(await socket.recv())


async def subscribe(socket: ClientConnection, id: str, document: str = WHOLE) -> None:
    payload = {"query": document, "variables": {"q": QUESTION}}
    await socket.send(json.dumps({"type": "subscribe", "id": id, "payload": payload}))


async def frame(socket: ClientConnection, id: str) -> Any:
    found = await message(socket)
    assert (found["type"], found["id"]) == ("next", id), found
    return found["payload"]["data"]["series"]


def tell(stream: LiveStream, values: list[float]) -> None:
    """A frame to all readers."""
    shown = Shown(Columns(list(range(len(values))), [Series({}, list(values), sum(values))]))
    stream.log.shown = [shown]
    stream._tell(FrameKind.DELTA, (shown.change(0, shown.columns),))


async def test_each_reader_gets_the_shared_frame_under_its_own_id(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = {id: await site.reader(id, document) for id, document in (("a", WHOLE), ('"b" ä', WHOLE), ("c", SHORT))}
    executed: list[object] = []
    execute = Executor.build_per_event_executor

    def counted(self: Executor, event: object) -> Executor:
        executed.append(event)
        return execute(self, event)

    monkeypatch.setattr(Executor, "build_per_event_executor", counted)
    tell(site.stream(), [5.0])
    told = {id: await frame(socket, id) for id, socket in readers.items()}
    assert told["a"] == told['"b" ä'] and told["a"]["columns"]["series"][0]["values"] == [5.0]
    assert told["c"] == {"kind": "DELTA", "seq": told["a"]["seq"]}
    # Once for each of the two selections.
    assert len(executed) == 2 and executed[0] is executed[1]


async def test_frames_of_any_length_arrive_whole(site: Site) -> None:
    socket = await site.reader("1")
    for count in (1, 10, 2_000, 20_000):
        tell(site.stream(), LARGE[:count])
        assert (await frame(socket, "1"))["columns"]["series"][0]["values"] == LARGE[:count]


async def test_a_reader_that_waits_has_no_task(site: Site) -> None:
    await site.reader("first")
    await until(lambda: not web_tasks())
    for number in range(10):
        await site.reader(str(number))
    await until(lambda: not web_tasks())


def web_tasks() -> set[str]:
    """What the server's tasks of sockets do; the clients of these tests have tasks as well."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    names = {getattr(coroutine, "__qualname__", "") for coroutine in coroutines}
    return {name for name in names if name.startswith(("Connection._", "SocketProtocol.", "GraphQLSockets."))}


async def test_who_does_not_read_holds_nobody_up_and_gets_a_gap_and_the_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_log, "MAX_BEHIND", 4)
    quick, slow = await site.reader("quick"), await site.reader("slow", max_queue=1)
    for number in range(FRAMES):
        tell(site.stream(), [float(number), *LARGE])
        assert (await frame(quick, "quick"))["columns"]["series"][0]["values"][0] == number
    kinds, newest = [], -1.0
    while newest != FRAMES - 1:
        last = await frame(slow, "slow")
        kinds.append(last["kind"])
        newest = last["columns"]["series"][0]["values"][0] if last["columns"]["series"] else newest
    after_gaps = {kinds[n + 1] for n, kind in enumerate(kinds) if kind == "GAP"}
    assert after_gaps == {"SNAPSHOT"} and len(kinds) - kinds.count("GAP") < FRAMES
    tell(site.stream(), [7.0])
    assert (await frame(slow, "slow"))["kind"] == "DELTA"


async def test_who_reads_nothing_for_long_is_closed_and_gives_its_place_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql_connection, "SEND_SECONDS", 0.5)
    await site.reader("slow", max_queue=1)
    stream = site.stream()
    async with asyncio.timeout(30):
        while stream.readers:
            tell(stream, LARGE)
            await asyncio.sleep(0.05)
    await until(lambda: not site.web.server.server_state.connections)


async def test_complete_ends_the_reading_and_the_id_is_free_again(site: Site) -> None:
    socket = await site.reader("1")
    await socket.send(json.dumps({"type": "complete", "id": "1"}))
    stream = site.stream()
    await until(lambda: not stream.readers)
    await subscribe(socket, "1")
    assert (await frame(socket, "1"))["kind"] == "SNAPSHOT"


async def test_a_stream_that_fails_is_told_as_an_error_and_completed(site: Site) -> None:
    socket = await site.socket()
    payload = {"query": WHOLE, "variables": {"q": {**QUESTION, "metric": "no such metric"}}}
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    assert (await message(socket))["payload"]["errors"][0]["extensions"]["code"] == "UNKNOWN_METRIC"
    assert await message(socket) == {"type": "complete", "id": "1"}
    payload = {"query": WHOLE, "variables": {"q": QUESTION, "r": "*"}}
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    assert (await message(socket))["payload"]["errors"][0]["extensions"]["code"] == "INVALID_CURSOR"
    assert await message(socket) == {"type": "complete", "id": "1"}


async def test_what_is_sent_before_the_acknowledgement_is_done_after_it(site: Site) -> None:
    url = site.web.url.replace("http", "ws", 1) + "/graphql"
    async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        payload = {"authorization": f"Bearer {site.secret}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        await subscribe(socket, "1")
        await socket.send(json.dumps({"type": "ping"}))
        assert await message(socket) == {"type": "connection_ack"}
        assert await message(socket) == {"type": "pong"}
        assert (await frame(socket, "1"))["kind"] == "SNAPSHOT"


async def test_what_is_told_in_one_turn_of_the_loop_is_one_write(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = await site.reader("1")
    await subscribe(socket, "2", SHORT)
    assert (await frame(socket, "2"))["kind"] == "SNAPSHOT"
    sent: list[bytes] = []
    flush = SocketProtocol.flush

    def kept(self: SocketProtocol) -> None:
        sent.append(self._unsent or b"")
        flush(self)

    monkeypatch.setattr(SocketProtocol, "flush", kept)
    tell(site.stream(), [1.0])
    tell(site.stream(), [2.0])
    found = [await message(socket) for _ in range(4)]
    assert sorted(told["id"] for told in found) == ["1", "1", "2", "2"] and len(sent) == 1
    values = [
        told["payload"]["data"]["series"]["columns"]["series"][0]["values"] for told in found if told["id"] == "1"
    ]
    assert values == [[1.0], [2.0]]


async def test_a_server_that_stops_says_so_after_what_it_has_told_and_waits_for_nobody(site: Site) -> None:
    socket = await site.reader("1")
    tell(site.stream(), [3.0])
    for connection in list(site.web.server.server_state.connections):
        connection.shutdown()
    assert (await frame(socket, "1"))["kind"] == "DELTA"
    with pytest.raises(ConnectionClosed) as closed:
        await message(socket)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
    await until(lambda: not site.stream().readers)
