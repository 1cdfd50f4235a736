"""The live stream as a stock client sees it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import httpx2
import pytest
import websockets
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from cloudmetrics.data_folder import DataFolder
from core.errors import Unauthenticated
from core.ratelimit import RateLimiter
from tests.conftest import Instance
from web.auth.strangers import STRANGER_REQUESTS_PER_MINUTE, refuse_stranger
from web.crowd import MAX_OF_ADDRESS

pytestmark = pytest.mark.slow
STREAM = """subscription($q: MetricQuery!, $r: String) {
  series(query: $q, resumeFrom: $r) { kind seq epoch cursor watermark columns }
}"""
QUESTION = {"metric": "events", "range": {"last": "10m"}, "interval": "MINUTE"}


async def send(instance: Instance, **event: Any) -> None:
    body = {"events": [{"type": "live", "context": {"user_agent": ""}, **event}]}
    async with httpx2.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {instance.publishable_key}"}
        answer = await client.post(f"{instance.url}/v1/events", json=body, headers=headers)
        assert answer.status_code == 202


def transport(instance: Instance) -> WebsocketsTransport:
    return WebsocketsTransport(
        url=f"{instance.url.replace('http', 'ws', 1)}/graphql",
        init_payload={"authorization": f"Bearer {instance.secret_key}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )


def total(frame: dict[str, Any]) -> int:
    return int(frame["columns"]["series"][0]["total"])


async def next_frame(frames: Any, *kinds: str) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while True:
            frame: dict[str, Any] = (await anext(frames))["series"]
            if frame["kind"] in kinds:
                return frame


async def test_python_gql_receives_a_snapshot_and_then_what_changed(instance: Instance) -> None:
    async with Client(transport=transport(instance), fetch_schema_from_transport=True) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION})
        snapshot = await next_frame(frames, "SNAPSHOT")
        await send(instance)
        delta = await next_frame(frames, "DELTA")
        assert delta["seq"] == snapshot["seq"] + 1 and delta["epoch"] == snapshot["epoch"]
        assert total(delta) == total(snapshot) + 1
        assert len(delta["columns"]["timestamps"]) <= 2
        await frames.aclose()


async def test_a_late_event_is_a_revision_of_its_bucket(instance: Instance) -> None:
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION})
        await next_frame(frames, "SNAPSHOT")
        late = time.time() - 300
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(late))
        await send(instance, timestamp=stamp)
        revision = await next_frame(frames, "REVISION", "DELTA")
        assert revision["columns"]["timestamps"] == [int(late) // 60 * 60_000]
        await frames.aclose()


async def test_a_cut_stream_goes_on_with_what_was_missed(instance: Instance) -> None:
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION})
        cut = await next_frame(frames, "SNAPSHOT")
        await frames.aclose()
    await send(instance)
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION, "r": cut["cursor"]})
        missed = await next_frame(frames, "DELTA", "REVISION", "GAP", "SNAPSHOT")
        assert missed["kind"] in ("DELTA", "REVISION") and total(missed) == total(cut) + 1
        await frames.aclose()


async def test_a_cursor_that_was_never_sent_is_refused_with_the_remedy(instance: Instance) -> None:
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION, "r": "abcdef.7"})
        with pytest.raises(TransportQueryError) as refused:
            await anext(frames)
        assert refused.value.errors and refused.value.errors[0]["extensions"]["code"] == "INVALID_CURSOR"
        assert "leave it out" in refused.value.errors[0]["message"]


async def test_the_tail_shows_an_event_that_was_sent(instance: Instance) -> None:
    text = 'subscription { events(filter: {types: ["live"]}) { kind sampled events { type userId } } }'
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(text))
        async with asyncio.timeout(30):
            found: list[Any] = []
            # Whoever counts looks once a second who listens.
            while not found:
                await send(instance, user_id="ada")
                found = (await anext(frames))["events"]["events"]
        assert found[0] == {"type": "live", "userId": "ada"}
        await frames.aclose()


async def test_a_frozen_second_is_followed_by_the_same_number_as_a_query(instance: Instance) -> None:
    async with Client(transport=transport(instance)) as session:
        frames = session.subscribe(gql(STREAM), variable_values={"q": QUESTION})
        state = {**(await next_frame(frames, "SNAPSHOT"))["columns"]}
        values = dict(zip(state["timestamps"], state["series"][0]["values"], strict=True))
        for _ in range(20):
            await send(instance)
        async with asyncio.timeout(15):
            target = sum(values.values()) + 20
            while sum(values.values()) < target:
                frame = await next_frame(frames, "DELTA", "REVISION")
                columns = frame["columns"]
                values |= dict(zip(columns["timestamps"], columns["series"][0]["values"], strict=True))
        answer = await asyncio.to_thread(query_now, instance)
        assert {t: v for t, v in values.items() if v} == {t: v for t, v in answer.items() if v}
        await frames.aclose()


def query_now(instance: Instance) -> dict[int, int]:
    text = "query($q: MetricQuery!) { series(query: $q) { columns } }"
    body = {"query": text, "variables": {"q": QUESTION}}
    answer = httpx2.post(
        f"{instance.url}/graphql", json=body, headers={"Authorization": f"Bearer {instance.secret_key}"}
    ).json()
    columns = answer["data"]["series"]["columns"]
    return dict(zip(columns["timestamps"], columns["series"][0]["values"], strict=True))


INIT = json.dumps({"type": "connection_init"})


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["[]"], 4400),
        (["null"], 4400),
        (["nonsense"], 4400),
        (["[" * 50_000], 4400),
        ([json.dumps({"type": "connection_init", "payload": 5})], 4400),
        ([INIT], 4401),
        ([json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "{__typename}"}})], 4401),
        (["GOOD_INIT", "GOOD_INIT"], 4429),
        (["GOOD_INIT", json.dumps({"type": "subscribe", "id": {}, "payload": {"query": "{__typename}"}})], 4400),
        (["GOOD_INIT", json.dumps({"type": "subscribe", "id": "1", "payload": None})], 4400),
        (["GOOD_INIT", json.dumps({"type": "what"})], 4400),
    ],
)
async def test_a_bad_socket_message_closes_with_its_code(instance: Instance, messages: list[str], code: int) -> None:
    url = f"{instance.url.replace('http', 'ws', 1)}/graphql"
    payload = {"authorization": f"Bearer {instance.secret_key}"}
    good = json.dumps({"type": "connection_init", "payload": payload})
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        for message in messages:
            await socket.send(good if message == "GOOD_INIT" else message)
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    await socket.recv()
        assert socket.close_code == code


async def test_another_protocol_is_not_spoken(instance: Instance) -> None:
    url = f"{instance.url.replace('http', 'ws', 1)}/graphql"
    async with websockets.connect(url) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4406


async def test_a_flood_of_messages_ends_the_socket(instance: Instance) -> None:
    url = f"{instance.url.replace('http', 'ws', 1)}/graphql"
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {instance.secret_key}"}}
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps(init))
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(5000):
                await socket.send('{"type":"pong"}')
            async with asyncio.timeout(10):
                while True:
                    await socket.recv()
        assert socket.close_code == 4429


async def test_text_that_is_no_utf8_closes_and_leaves_no_trace(instance: Instance) -> None:
    url = f"{instance.url.replace('http', 'ws', 1)}/graphql"
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {instance.secret_key}"}}
    for _ in range(5):
        async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
            await socket.send(json.dumps(init))
            await socket.send(b"\xff\xfe", text=True)
            with pytest.raises(websockets.ConnectionClosed):
                async with asyncio.timeout(10):
                    while True:
                        await socket.recv()
    assert "Traceback" not in (instance.data / "logs/web.log").read_text()


async def initialised(instance: Instance, key: str) -> ClientConnection:
    socket = await websockets.connect(
        f"{instance.url.replace('http', 'ws', 1)}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")]
    )
    await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {key}"}}))
    return socket


async def heard(socket: ClientConnection) -> Any:
    async with asyncio.timeout(15):
        return json.loads(await socket.recv())


async def test_there_are_so_many_sockets_of_an_address_and_a_place_is_free_again(instance: Instance) -> None:
    sockets: list[ClientConnection] = []
    with pytest.raises(websockets.InvalidStatus) as refusal:
        while len(sockets) <= MAX_OF_ADDRESS:
            sockets.append(await initialised(instance, instance.secret_key))
            assert (await heard(sockets[-1]))["type"] == "connection_ack"
    assert len(sockets) == MAX_OF_ADDRESS
    answer = refusal.value.response
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0 and answer.headers["X-Request-Id"]
    said = json.loads(answer.body or b"{}")["error"]
    assert (
        said["code"] == "too_many_sockets" and f"{MAX_OF_ADDRESS} GraphQL sockets from this address" in said["message"]
    )
    await asyncio.gather(*(socket.close() for socket in sockets))
    async with await initialised(instance, instance.secret_key) as socket:
        assert (await heard(socket))["type"] == "connection_ack"


async def test_keys_guessed_on_sockets_count_as_those_guessed_in_requests(instance: Instance) -> None:
    """Last in this module: the bucket of this address is empty afterwards."""
    settings = DataFolder.at(instance.data).running_settings(os.environ)
    guess = instance.secret_key[:-4] + "0000"
    async with await initialised(instance, guess) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await heard(socket)
        assert socket.close_code == 4401
    limiter = RateLimiter(settings.redis_url)
    left = (await refuse_stranger(limiter, "127.0.0.1", Unauthenticated()))[0]
    assert left.remaining < STRANGER_REQUESTS_PER_MINUTE - 1
    while (await refuse_stranger(limiter, "127.0.0.1", Unauthenticated()))[0].remaining > 0:
        pass
    codes = []
    for _ in range(30):
        async with await initialised(instance, guess) as socket:
            with pytest.raises(websockets.ConnectionClosed):
                await heard(socket)
            codes.append(socket.close_code)
    assert set(codes) <= {4401, 4429} and 4429 in codes
    async with await initialised(instance, instance.secret_key) as socket:
        assert (await heard(socket))["type"] == "connection_ack"
    await limiter.close()
