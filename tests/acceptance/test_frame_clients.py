"""The client modules of `clients/`: what they merge is what a query answers, in Python and in Node."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import httpx2
import msgspec
import pytest

from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant
from query.frames import Change, FrameKind, Shown, differences, whole
from resolvers import saved_streams
from tests.conftest import ROOT, make_key
from tests.query.test_frames import answers
from tests.resolvers.test_live_hub import Counting, until_connected
from tests.web.serving import Serving, serving
from tests.web.test_series_sse import QUERY, SAVE, bearer, graphql

JAVASCRIPT = ROOT / "clients/javascript/frames.mjs"
PYTHON = ROOT / "clients/python/cloudmetrics_frames.py"
NODE = shutil.which("node")
# In CI a client that could not start is a failure, not a skip.
NEEDS_NODE = pytest.mark.skipif(NODE is None and not os.environ.get("CI"), reason="needs node")

MERGE = """import { Screen } from '%s';
const lines = (await import('fs')).readFileSync(0, 'utf8').trim().split('\\n');
const screen = new Screen();
for (const line of lines) screen.take(JSON.parse(line));
console.log(JSON.stringify(screen.charts.map(({ timestamps, series }) => ({ timestamps, series }))));"""

FOLLOW = """import { follow } from '%s';
const [url, key, question] = process.argv.slice(-3);
await follow({ url, questions: [question], authorization: () => `Bearer ${key}`, onChange: (screen, frame) => {
  const { timestamps, series } = screen.charts[0] ?? {};
  if (!screen.isStale) console.log(JSON.stringify({ kind: frame.kind, chart: { timestamps, series } }));
} });"""

FOLLOW_PYTHON = """import json, sys
sys.path.insert(0, %r)
from cloudmetrics_frames import follow
url, key, question = sys.argv[1:]
for screen in follow(url, [question], lambda: "Bearer " + key):
    if not screen.is_stale:
        chart = screen.charts[0]
        told = {"timestamps": chart.timestamps, "series": chart.series}
        print(json.dumps({"kind": screen._last["kind"], "chart": told}), flush=True)
"""


def python_client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cloudmetrics_frames", PYTHON)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def frames_of(seed: int) -> tuple[list[dict[str, Any]], Shown]:
    """A set's frames as they are sent, and the last answer."""
    walk = answers(random.Random(seed))
    told = [frame_of(FrameKind.SNAPSHOT, 1, whole(walk[:1]))]
    for before, after in zip(walk, walk[1:], strict=False):
        told += [
            frame_of(kind, len(told) + n + 1, (change,))
            for n, (kind, change) in enumerate(differences(0, before, after))
        ]
    return told, walk[-1]


def frame_of(kind: FrameKind, seq: int, changes: tuple[Change, ...]) -> dict[str, Any]:
    parts = [{"index": c.index, "columns": c.json, "from": c.from_, "to": c.to} for c in changes]
    frame = {"kind": kind, "seq": seq, "epoch": "e", "cursor": f"e.{seq}", "watermark": None, "changes": parts}
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(frame))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_python_merges_to_the_answer(seed: int) -> None:
    frames, answer = frames_of(seed)
    screen = python_client().Screen()
    for frame in frames:
        screen.take(frame)
    assert screen.charts[0].timestamps == answer.columns.timestamps
    assert screen.charts[0].series == msgspec.to_builtins(answer.columns.series)
    assert screen.cursor == f"e.{len(frames)}" and not screen.is_stale


def test_python_notices_a_frame_that_did_not_come() -> None:
    client = python_client()
    frames, _ = frames_of(1)
    screen = client.Screen().take(frames[0])
    with pytest.raises(client.Missed):
        screen.take({**frames[1], "seq": 3})
    screen.take({**frames[1], "kind": "GAP", "seq": 8, "changes": []})
    assert screen.is_stale
    screen.take({**frames[0], "seq": 9})
    assert not screen.is_stale


@NEEDS_NODE
@pytest.mark.parametrize("seed", range(5))
async def test_javascript_merges_to_the_answer(seed: int) -> None:
    frames, answer = frames_of(seed)
    program = await node(MERGE, stdin=asyncio.subprocess.PIPE)
    out, _ = await program.communicate("\n".join(json.dumps(frame) for frame in frames).encode())
    (chart,) = json.loads(out)
    assert chart == msgspec.to_builtins(answer.columns)


async def node(text: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        NODE or "node", "--input-type=module", "-e", text % JAVASCRIPT.as_uri(), "--", *arguments,
        stdout=asyncio.subprocess.PIPE, **options,
    )  # fmt: skip


async def python(text: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", text % str(PYTHON.parent), *arguments, stdout=asyncio.subprocess.PIPE
    )


@pytest.fixture
async def web(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(saved_streams, "FRAME_SECONDS", 0.2)
    async with serving(settings) as running:
        await until_connected(running.services)
        yield running


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=NEEDS_NODE)])
async def test_a_client_follows_the_server_over_a_cut(
    language: str, web: Serving, database: Database, settings: Settings, tenant: Tenant
) -> None:
    _, secret = await make_key(database, settings, tenant)
    question = (await graphql(web, secret, SAVE, q={**QUERY, "groupBy": ["browser"]}))["question"]["id"]

    class Context:
        backends = web.services

    counting = Counting(database, tenant, Context())  # type: ignore[arg-type]
    start, text = (python, FOLLOW_PYTHON) if language == "python" else (node, FOLLOW)
    program = await start(text, web.url, secret, question)
    assert program.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert json.loads(await program.stdout.readline())["kind"] == "SNAPSHOT"
            kinds = set()
            for browser in ("Chrome", "Firefox", "Chrome", "Safari"):
                await counting.add(0, 3700, browser=browser)
                if browser == "Firefox":
                    for connection in tuple(web.server.server_state.connections):
                        connection.transport.abort()  # type: ignore[union-attr]
            wanted = await asked(web, secret)
            while True:
                told = json.loads(await program.stdout.readline())
                kinds.add(told["kind"])
                if told["chart"] == wanted:
                    break
        assert "SNAPSHOT" not in kinds, "what was missed was replayed, not told anew"
    finally:
        program.kill()
        await program.wait()


async def asked(web: Serving, secret: str) -> Any:
    async with httpx2.AsyncClient(timeout=30) as client:
        text = "query($q: MetricQuery!) { series(query: $q) { columns } }"
        body = {"query": text, "variables": {"q": {**QUERY, "groupBy": ["browser"]}}}
        answer = await client.post(f"{web.url}/graphql", json=body, headers=bearer(secret))
        return answer.json()["data"]["series"]["columns"]
