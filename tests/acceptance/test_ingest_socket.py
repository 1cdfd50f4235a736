"""Events by WebSocket: each frame is answered, whatever it holds, and every end has its code."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from core.keys import sign
from tests.conftest import ROOT, Instance, start_instance
from web.crowd import MAX_OF_ADDRESS

pytestmark = pytest.mark.slow
MARK = "socket"


def url(instance: Instance, query: str = "") -> str:
    return f"{instance.url.replace('http', 'ws', 1)}/v1/events/ws{query}"


def bearer(instance: Instance) -> dict[str, str]:
    return {"Authorization": f"Bearer {instance.secret_key}"}


async def heard(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(15):
        found: dict[str, Any] = json.loads(await socket.recv())
    return found


async def opened(instance: Instance, query: str = "") -> ClientConnection:
    """A socket whose sender is known."""
    socket = await websockets.connect(url(instance, query), additional_headers=bearer(instance))
    assert [(await heard(socket))["type"], (await heard(socket))["type"]] == ["hello", "ready"]
    return socket


def made_key(instance: Instance, *asked: str) -> tuple[str, str]:
    """A new key's id and secret."""
    said = instance.cli("key", "create", *asked).stdout
    return re.findall("key id (.+)", said)[0], re.findall("secret (cm_.+)", said)[0]


def frame(*events: dict[str, Any]) -> str:
    return json.dumps({"events": list(events)})


def event(**more: Any) -> dict[str, Any]:
    return {"type": MARK, "id": str(uuid4()), "context": {"user_agent": ""}, **more}


async def ended(socket: ClientConnection) -> int | None:
    """The code with which the other side closes."""
    with pytest.raises(websockets.ConnectionClosed):
        async with asyncio.timeout(45):
            while True:
                await socket.recv()
    return socket.close_code


def stored(instance: Instance, event_type: str) -> int:
    query = (
        f'{{ breakdown(query: {{metric: "events", range: {{last: "1h"}}, includeBots: true, groupBy: ["type"], '
        f'filters: [{{dimension: "type", op: EQ, values: ["{event_type}"]}}]}}) {{ total }} }}'
    )
    answer = httpx2.post(f"{instance.url}/graphql", json={"query": query}, headers=bearer(instance), timeout=20)
    return int(answer.json()["data"]["breakdown"]["total"])


async def until_stored(instance: Instance, event_type: str, count: int) -> None:
    end = time.monotonic() + 30
    while (found := await asyncio.to_thread(stored, instance, event_type)) != count:
        assert found < count and time.monotonic() < end, f"{found} of {count}"
        await asyncio.sleep(0.2)


async def test_each_frame_is_acknowledged_as_a_request_would_be_and_counted_once(instance: Instance) -> None:
    kind = f"ack-{uuid4().hex}"
    good, again = event(type=kind), event(type=kind)
    async with await opened(instance) as socket:
        await socket.send(frame(good, {"type": 5}, again))
        first = await heard(socket)
        await socket.send(frame(again))
        second = await heard(socket)
        await socket.send(gzip.compress(frame(event(type=kind)).encode()))
        third = await heard(socket)
    assert (first["type"], first["seq"], first["accepted"]) == ("ack", 1, 2)
    assert [result["status"] for result in first["results"]] == ["accepted", "rejected", "accepted"]
    assert first["results"][1]["field"] == "type" and first["results"][0]["id"] == good["id"]
    assert first["rate_limit"]["remaining"] < first["rate_limit"]["limit"]
    assert (second["seq"], second["results"][0]["status"]) == (2, "duplicate")
    assert (third["seq"], third["accepted"]) == (3, 1)
    await until_stored(instance, kind, 3)


async def test_after_a_cut_what_has_no_answer_is_sent_again_and_counted_once(instance: Instance) -> None:
    kind = f"cut-{uuid4().hex}"
    frames = [frame(event(type=kind)) for _ in range(40)]
    socket = await opened(instance)
    for text in frames:
        await socket.send(text)
    acknowledged = {(await heard(socket))["seq"] for _ in range(5)}
    socket.transport.abort()
    async with await opened(instance) as socket:
        for text in frames[len(acknowledged) :]:
            await socket.send(text)
        answers = [await heard(socket) for _ in frames[len(acknowledged) :]]
    assert {result["status"] for answer in answers for result in answer["results"]} <= {"accepted", "duplicate"}
    await until_stored(instance, kind, len(frames))


async def test_the_example_in_the_manual_sends_everything(instance: Instance) -> None:
    text = (ROOT / "docs/ingest-socket.md").read_text(encoding="utf-8")
    code = text.partition("```python")[2].partition("```")[0]
    kind = f"manual-{uuid4().hex}"
    code = code.replace("signup", kind).replace("ws://127.0.0.1:8000/v1/events/ws", url(instance))
    code = code.replace("cm_pk_...", instance.publishable_key)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    await until_stored(instance, kind, 1000)


async def test_a_dry_run_takes_nothing(instance: Instance) -> None:
    kept = event()
    async with await opened(instance, "?dry_run=true") as socket:
        await socket.send(frame(kept))
        assert (await heard(socket))["accepted"] == 1
    async with await opened(instance) as socket:
        await socket.send(frame(kept))
        assert (await heard(socket))["results"][0]["status"] == "accepted"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("[]", "invalid_body"),
        ("null", "invalid_body"),
        ("7", "invalid_body"),
        ("nonsense", "invalid_json"),
        ("", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        (frame(), "empty_batch"),
        (frame(*[event()] * 101), "batch_too_large"),
        (b"\x1f\x8bnonsense", "invalid_encoding"),
        (gzip.compress(b" " * 5 * 1024 * 1024), "decompressed_too_large"),
    ],
)
async def test_a_bad_frame_is_refused_by_its_number_and_the_socket_goes_on(
    instance: Instance, body: str | bytes, code: str
) -> None:
    async with await opened(instance) as socket:
        await socket.send(body)
        await socket.send(frame(event()))
        refusal, after = await heard(socket), await heard(socket)
    assert (refusal["type"], refusal["seq"]) == ("refused", 1) and 400 <= refusal["status"] < 500
    assert refusal["error"]["code"] in (code, "invalid_body", "invalid_unicode") and refusal["error"]["message"]
    assert "retry_after" not in refusal
    assert (after["type"], after["seq"]) == ("ack", 2)


def signature_of(instance: Instance, nonce: str, *, seconds_ago: int = 0) -> dict[str, str]:
    moment = int(time.time()) - seconds_ago
    digest = sign(instance.secret_key, timestamp=moment, method="GET", path="/v1/events/ws", body=nonce.encode())
    return {"type": "auth", "key": instance.secret_key_id, "signature": f"t={moment},v1={digest}"}


AUTHS: list[tuple[Callable[[Instance, str], Any], int | None]] = [
    (lambda i, nonce: {"type": "auth", "authorization": f"Bearer {i.secret_key}"}, None),
    (lambda i, nonce: {"type": "auth", "authorization": f"Bearer {i.publishable_key}"}, None),
    (signature_of, None),
    (lambda i, nonce: signature_of(i, nonce, seconds_ago=3600), 4401),
    (lambda i, nonce: signature_of(i, "0" * 32), 4401),
    (lambda i, nonce: {"type": "auth", "key": i.secret_key_id, "signature": "v1=0"}, 4401),
    (lambda i, nonce: {"type": "auth", "authorization": "Bearer cm_sk_" + "x" * 43}, 4401),
    (lambda i, nonce: {"type": "auth", "authorization": "Basic x"}, 4401),
    (lambda i, nonce: {"type": "auth"}, 4400),
    (lambda i, nonce: {"type": "auth", "authorization": 7}, 4400),
    (lambda i, nonce: {"events": []}, 4400),
    (lambda i, nonce: [], 4400),
    (lambda i, nonce: {"type": "auth", "authorization": "x" * 5000}, 4400),
]


@pytest.mark.parametrize(("auth", "code"), AUTHS)
async def test_the_first_message_says_who_sends_or_the_socket_is_closed(
    instance: Instance, auth: Callable[[Instance, str], Any], code: int | None
) -> None:
    async with websockets.connect(url(instance)) as socket:
        hello = await heard(socket)
        assert hello["type"] == "hello" and hello["window"] == 32 and hello["max_frame_bytes"] == 1024 * 1024
        await socket.send(json.dumps(auth(instance, hello["nonce"])))
        if code is not None:
            assert await ended(socket) == code
            return
        assert (await heard(socket))["type"] == "ready"
        await socket.send(frame(event()))
        assert (await heard(socket))["type"] == "ack"


async def test_a_socket_that_says_nothing_is_closed(instance: Instance) -> None:
    async with websockets.connect(url(instance)) as socket:
        assert await ended(socket) == 4408


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?key=cm_sk_" + "x" * 43, {}, 400, "credentials_in_url"),
        ("?key=cm_pk_" + "x" * 43, {}, 401, "invalid_api_key"),
        ("", {"Authorization": "Bearer nonsense"}, 401, "invalid_api_key"),
        ("", {"X-CM-Key": "key_x", "X-CM-Signature": "t=1,v1=0"}, 401, "signature_in_handshake"),
    ],
)
async def test_a_handshake_with_a_bad_key_is_refused_before_it_is_accepted(
    instance: Instance, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await websockets.connect(url(instance, query), additional_headers=headers)
    answer = refusal.value.response
    body = json.loads(answer.body or b"")
    assert (answer.status_code, body["error"]["code"]) == (status, code)
    assert answer.headers["X-Request-Id"] == body["error"]["request_id"]
    assert "cm_sk_" not in (instance.data / "logs/web.log").read_text()


async def test_a_page_of_another_origin_is_refused(instance: Instance) -> None:
    _, key = made_key(instance, "--kind", "publishable", "--origin", "https://shop.example")
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await websockets.connect(url(instance, f"?key={key}"), origin="https://evil.example")  # type: ignore[arg-type]
    assert refusal.value.response.status_code == 403
    async with websockets.connect(url(instance), origin="https://evil.example") as socket:  # type: ignore[arg-type]
        await socket.send(json.dumps({"type": "auth", "authorization": f"Bearer {key}"}))
        assert await ended(socket) == 4403
    async with websockets.connect(url(instance, f"?key={key}"), origin="https://shop.example") as socket:  # type: ignore[arg-type]
        assert [(await heard(socket))["type"], (await heard(socket))["type"]] == ["hello", "ready"]


async def test_a_revoked_key_ends_its_silent_sockets(instance: Instance) -> None:
    key_id, secret = made_key(instance, "--unsigned")
    headers = {"Authorization": f"Bearer {secret}"}
    async with websockets.connect(url(instance), additional_headers=headers) as socket:
        instance.cli("key", "revoke", key_id)
        assert await ended(socket) == 4403


async def test_there_are_so_many_sockets_of_an_address_and_a_place_is_free_again(instance: Instance) -> None:
    sockets = [await websockets.connect(url(instance), additional_headers=bearer(instance))]
    with pytest.raises(websockets.InvalidStatus) as refusal:
        while len(sockets) <= MAX_OF_ADDRESS:
            sockets.append(await websockets.connect(url(instance), additional_headers=bearer(instance)))
    answer = refusal.value.response
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert httpx2.get(f"{instance.url}/health/ready", timeout=10).status_code == 200
    await asyncio.gather(*(socket.close() for socket in sockets))
    assert len(sockets) <= MAX_OF_ADDRESS
    await (await opened(instance)).close()


async def test_a_frame_beyond_a_mebibyte_and_text_that_is_no_utf8_end_the_socket(instance: Instance) -> None:
    async with await opened(instance) as socket:
        await socket.send(frame(*[event(properties={"text": "x" * 8000})] * 100))
        assert (await heard(socket))["type"] == "ack"
    for big, code in ((" " * (1024 * 1024 + 1), 1009), (b"\xff\xfe", 1007)):
        async with await opened(instance) as socket:
            await socket.send(big, text=True)
            assert await ended(socket) == code


async def test_whoever_sends_refused_frames_for_ever_is_closed(instance: Instance) -> None:
    async with await opened(instance) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(3000):
                await socket.send("[]")
                await socket.recv()
        assert socket.close_code == 4429


def fuzzed(choice: random.Random) -> str | bytes:
    """A frame with something wrong in it, or nothing."""
    good = frame(event(type="fuzz"), event(type="fuzz", properties={"a": [1, {"b": None}]}))
    match choice.randrange(5):
        case 0:
            return good[: choice.randrange(len(good))]
        case 1:
            at = choice.randrange(len(good))
            return good[:at] + chr(choice.choice([0, 34, 44, 91, 123, 125, 0xD7FF, 0x1F600])) + good[at + 1 :]
        case 2:
            packed = bytearray(gzip.compress(good.encode()))
            packed[choice.randrange(len(packed))] ^= 1 << choice.randrange(8)
            return bytes(packed)
        case 3:
            return choice.randbytes(choice.randrange(200))
    values = ["1e999", "-0", '"\\ud800"', "true", "[[]]", '{"events": {}}', "[" * choice.randrange(1, 2000), "{}"]
    return f'{{"events": [{choice.choice(values)}], "sent_at": {choice.choice(values)}}}'


async def test_whatever_a_frame_holds_it_is_answered_and_leaves_no_trace(instance: Instance) -> None:
    choice = random.Random(20)
    frames = [fuzzed(choice) for _ in range(400)]
    async with await opened(instance) as socket:
        for seq, body in enumerate(frames, 1):
            await socket.send(body)
            answer = await heard(socket)
            assert answer["seq"] == seq
            assert answer["type"] == "ack" or 400 <= answer["status"] < 500, (body, answer)
    assert "Traceback" not in (instance.data / "logs/web.log").read_text()


async def test_a_limit_is_told_with_the_time_to_come_back_and_nothing_is_taken(tmp_path: Any) -> None:
    kind = f"limit-{uuid4().hex}"
    running = start_instance(tmp_path / "data", "--empty", settings={"REQUESTS_PER_MINUTE": "60"})
    try:
        async with await opened(running) as socket:
            for _ in range(90):
                await socket.send(frame(event(type=kind)))
            answers = [await heard(socket) for _ in range(90)]
        refusals = [answer for answer in answers if answer["type"] == "refused"]
        assert refusals and [answer["seq"] for answer in answers] == list(range(1, 91))
        for refusal in refusals:
            assert refusal["status"] == 429 and refusal["retry_after"] >= 1
            assert refusal["error"]["code"] == "rate_limited" and refusal["rate_limit"]["remaining"] == 0
        await until_stored_after_the_limit(running, kind, 90 - len(refusals))
    finally:
        running.cli("down")


async def until_stored_after_the_limit(instance: Instance, kind: str, count: int) -> None:
    """The one bucket of the key holds for reads too, so they wait for a token each."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if await asyncio.to_thread(stored, instance, kind) == count:
                return
        except (KeyError, TypeError):
            pass
        await asyncio.sleep(1.5)
    raise AssertionError("not counted")


async def test_a_stop_answers_what_it_read_and_closes_with_1012(tmp_path: Any) -> None:
    """What was acknowledged is there when it is back; what was not may be sent again."""
    kind = f"stop-{uuid4().hex}"
    running = start_instance(tmp_path / "data", "--empty")
    try:
        acknowledged, socket = 0, await opened(running)

        async def send() -> None:
            while True:
                await socket.send(frame(event(type=kind)))
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                answer = await heard(socket)
                acknowledged += answer["accepted"]
                if answer["seq"] == 50:
                    os.kill(running.pid("web"), signal.SIGTERM)
        await asyncio.gather(sending, return_exceptions=True)
        assert socket.close_code == 1012
        end = time.monotonic() + 30
        while True:
            try:
                found = await asyncio.to_thread(stored, running, kind)
            except (httpx2.HTTPError, KeyError, TypeError):
                found = -1
            if found == acknowledged:
                break
            assert found < acknowledged and time.monotonic() < end, (found, acknowledged)
            await asyncio.sleep(0.3)
    finally:
        running.cli("down")
