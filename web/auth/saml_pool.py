"""Worker processes for SAML: two at most, a queue in front of them, ten seconds for a job with its wait. Each job costs
processes and XML of strangers; what hangs, grows or breaks is killed with all that it started, and another takes over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from core.errors import InvalidRequest, Unavailable
from core.orphans import dies_with_parent
from web.auth.saml_worker import READY, Job, Outcome

log = logging.getLogger(__name__)

WORKERS = 2
QUEUE = 20
JOB_SECONDS = 10.0
# A process that is slow to start on a busy machine is waited for by the next job, not begun anew for each.
START_SECONDS = 60.0
CHECKOUT = Path(__file__).resolve().parent.parent.parent
# The library remembers everybody whom it has seen.
MAX_JOBS = 500
# A line is a document in base64 within JSON.
MAX_LINE_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    folder: str
    jobs: int = 0

    async def ask(self, job: bytes) -> Outcome:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(job + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        return msgspec.json.decode(line, type=Outcome)

    async def end(self) -> None:
        """Kills it and what it started; what they left in their folder goes with them."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class SamlPool:
    """One an application; its processes start with the first job."""

    def __init__(self, xmlsec1: str, seconds: float = JOB_SECONDS) -> None:
        self.xmlsec1 = xmlsec1
        self._seconds = seconds
        self._idle: list[_Worker] = []
        self._starting: list[asyncio.Task[_Worker]] = []
        self._places = asyncio.Semaphore(WORKERS)
        self._asked = 0

    async def do(self, job: Job) -> Outcome:
        """The outcome of a job that was not refused.

        Raises:
            InvalidRequest: the job was refused.
            Unavailable: there is no xmlsec1, too many wait already, or it was not done in time.
        """
        if not self.xmlsec1 or not os.access(self.xmlsec1, os.X_OK):
            raise Unavailable(
                "SAML needs the program xmlsec1, which this installation has not: `make services` fetches it, or set "
                "CLOUDMETRICS_XMLSEC1 to its path.",
                code="saml_unavailable", retry_after=60.0,
            )  # fmt: skip
        if self._asked >= WORKERS + QUEUE:
            raise _busy()
        self._asked += 1
        try:
            async with asyncio.timeout(self._seconds):
                async with self._places:
                    outcome = await self._done(msgspec.json.encode(job))
        except TimeoutError:
            raise _busy() from None
        finally:
            self._asked -= 1
        if outcome.code:
            raise InvalidRequest(outcome.message, code=outcome.code, status=outcome.status)
        return outcome

    async def close(self) -> None:
        for task in self._starting:
            with suppress(Unavailable):
                self._idle.append(await task)
        while self._idle:
            await self._idle.pop().end()

    async def _done(self, job: bytes) -> Outcome:
        worker = self._idle.pop() if self._idle else await self._started()
        try:
            outcome = await worker.ask(job)
        except BaseException as error:
            # Out of time, out of memory, or gone: nothing of it is used again. Also where the asker went away.
            await asyncio.shield(worker.end())
            if isinstance(error, (OSError, ValueError, msgspec.DecodeError)):
                log.warning("a SAML worker broke", extra={"action": "saml_worker_broke"})
                raise _busy() from None
            raise
        worker.jobs += 1
        if worker.jobs < MAX_JOBS:
            self._idle.append(worker)
        else:
            await asyncio.shield(worker.end())
        return outcome

    async def _started(self) -> _Worker:
        """A new worker, or one that was begun for an asker who went away."""
        task = self._starting.pop() if self._starting else asyncio.ensure_future(_start())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._starting.append(task)
            raise


async def _start() -> _Worker:
    folder = tempfile.mkdtemp(prefix="cm-saml-")
    # No setting of ours, and so no secret, is within its reach.
    environ = {"PATH": os.defpath, "TMPDIR": folder, "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.auth.saml_worker", cwd=CHECKOUT, env=environ, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=MAX_LINE_BYTES,
        start_new_session=True, preexec_fn=dies_with_parent(signal.SIGKILL),
    )  # fmt: skip
    worker = _Worker(process, folder)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            if await process.stdout.readline() == READY:
                return worker
    except TimeoutError:
        pass
    await worker.end()
    raise _busy()


def _busy() -> Unavailable:
    return Unavailable(
        "Too many SAML sign-ins at once, or one took too long; try again.", code="saml_busy", retry_after=5.0
    )
