"""`--workers N`: one process that starts N of the same kind, starts again whichever dies, and ends with them.

Each is an ordinary member of its groups: the log gives partitions out among all that there are, on this machine and
elsewhere, and a process that dies holds nothing that the next cannot begin anew.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from core.orphans import dies_with_parent

log = logging.getLogger("pipeline")

MAX_WORKERS = 64
BACKOFF_SECONDS = (0.2, 10.0)
STEADY_SECONDS = 30.0
WATCH_SECONDS = 0.1
# More than a worker may take to give up a client that hangs; who is later is killed, and fenced as any other.
STOP_SECONDS = 12.0


async def run_processes(arguments: Sequence[str], count: int) -> None:
    """Runs `python -m pipeline` with these arguments so many times, until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(_keep_running(arguments, number, stop))
    log.info("processes stopped", extra={"action": "stop", "workers": count})


async def _keep_running(arguments: Sequence[str], number: int, stop: asyncio.Event) -> None:
    delay = BACKOFF_SECONDS[0]
    while not stop.is_set():
        started_at = time.monotonic()
        try:
            process = _start(arguments)
        except (OSError, subprocess.SubprocessError) as error:
            # Neither memory nor processes to be had now: tried again like one that died.
            reason = repr(error)
        else:
            log.info("process started", extra={"action": "start", "worker": number, "pid": process.pid})
            while process.poll() is None and not stop.is_set():
                await _wait(stop, WATCH_SECONDS)
            if stop.is_set():
                await _end(process)
                return
            reason = f"it ended with {process.returncode}"
        delay = BACKOFF_SECONDS[0] if time.monotonic() - started_at > STEADY_SECONDS else delay
        log.error(
            "process starts again",
            extra={"action": "restart_worker", "worker": number, "reason": reason, "seconds": delay},
        )
        await _wait(stop, delay)
        delay = min(delay * 2, BACKOFF_SECONDS[1])


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Passes the word on, and waits until what the process holds is finished."""
    process.terminate()
    end = time.monotonic() + STOP_SECONDS
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
        await asyncio.sleep(0.02)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C reaches it by us alone, once.
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=dies_with_parent(signal.SIGTERM),
    )
