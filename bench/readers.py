"""The load of the fan-out: `c/readers.c`, compiled when it is needed, run beside what is measured."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import OTHER_CORE, Running
from core.errors import Misconfigured

HERE = Path(__file__).resolve().parent
DOCUMENT = "subscription($q: MetricQuery!) { series(query: $q) { kind seq epoch cursor watermark columns } }"
QUESTION = {"metric": "events", "range": {"last": "1h"}, "interval": "MINUTE"}
READY_SECONDS = 120.0
# Of one frame that was recorded: its total, and when it was taken in nanoseconds of the monotonic clock.
RECORD = struct.Struct("=qq")


@dataclass(frozen=True, slots=True)
class Reading:
    """What readers took in a while: frames, their bytes, seconds, and their age in microseconds."""

    messages: int
    bytes: int
    seconds: float
    p50_us: int
    p99_us: int
    worst_us: int


def compiled(source: str, folder: Path) -> Path:
    """A program of ours in C.

    Raises:
        Misconfigured: there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Misconfigured("The fan-out benchmarks need a C compiler for their load and their limit: install cc.")
    program = folder / Path(source).stem
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / source)], check=True)
    return program


@dataclass(slots=True)
class Readers:
    """Clients of one server in a process of their own."""

    running: Running

    async def measure(self, seconds: float) -> Reading:
        """What they take in so many seconds from now."""
        return await self._asked(f"measure {int(seconds * 1000)}")

    async def record(self, seconds: float, path: Path) -> tuple[Reading, list[tuple[int, int]]]:
        """The same, and each frame's (total, nanoseconds when it was taken)."""
        reading = await self._asked(f"record {int(seconds * 1000)} {path}")
        return reading, [(total, at) for total, at in RECORD.iter_unpack(path.read_bytes())]

    async def _asked(self, line: str) -> Reading:
        process = self.running.process
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return Reading(**json.loads(await self.said()))

    async def said(self) -> bytes:
        """The next line that they say.

        Raises:
            RuntimeError: they have ended, after saying why on stderr.
        """
        process = self.running.process
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise RuntimeError(f"the readers ended with {process.wait()}")
        return line


def subscribe_payload(document: str = DOCUMENT, question: object = QUESTION) -> str:
    """What the readers subscribe with."""
    return json.dumps({"query": document, "variables": {"q": question}})


async def open_readers(
    folder: Path,
    port: int,
    clients: int,
    secrets: Sequence[str],
    *,
    stalled: int = 0,
    payload: str = "",
    block: int = 1,
) -> Readers:
    """Clients that have all had a first frame; client i shows the secret i mod many. `stalled` further ones take
    nothing from then on. No secrets: they speak no GraphQL. They come from addresses 127.0.<block>.x: a server takes
    so many sockets from each."""
    program, keys, subscribe = compiled("c/readers.c", folder), folder / f"keys-{block}", folder / f"subscribe-{block}"
    keys.write_text("\n".join(secrets))
    subscribe.write_text(payload or subscribe_payload())
    process = subprocess.Popen(
        [str(program), str(port), str(clients), str(keys), str(subscribe), str(stalled), str(block)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    readers = Readers(Running("readers", process))
    try:
        readers.running.pin({OTHER_CORE})
        async with asyncio.timeout(READY_SECONDS):
            if await readers.said() != b"ready\n":
                raise RuntimeError("the readers did not start")
    except BaseException:
        readers.running.stop()
        raise
    return readers
