"""Child processes: started, watched, started again with back-off, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import CloudMetricsError
from core.orphans import dies_with_parent

BACKOFF_SECONDS = (0.2, 10.0)
STEADY_SECONDS = 30.0
WATCH_SECONDS = 0.1
MAX_LOG_BYTES = 20 * 1024 * 1024
CHECKOUT = Path(__file__).resolve().parent.parent

Start = Callable[[], "subprocess.Popen[bytes]"]
Say = Callable[[str], None]


@dataclass(slots=True)
class Child:
    """One process that should be running. `is_once`: it may end well, and is then left alone."""

    name: str
    start: Start
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 8.0
    is_once: bool = False
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    _delay: float = BACKOFF_SECONDS[0]
    _started_at: float = 0.0
    _stopping: bool = field(default=False)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def launch(self) -> None:
        self.process = self.start()
        self._started_at = time.monotonic()

    async def watch(self, say: Say) -> None:
        """Starts it again whenever it dies, later each time, and says so."""
        while not self._stopping:
            await asyncio.sleep(WATCH_SECONDS)
            if self.process is None or self.process.poll() is None or self._stopping:
                continue
            if self.is_once and self.process.returncode == 0:
                return
            if time.monotonic() - self._started_at > STEADY_SECONDS:
                self._delay = BACKOFF_SECONDS[0]
            say(f"{self.name} ended with {self.process.returncode}; starting it again in {self._delay:.1f} s")
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 2, BACKOFF_SECONDS[1])
            if not self._stopping:
                self._relaunch(say)

    def _relaunch(self, say: Say) -> None:
        """What fails now, for want of memory or processes, is tried again after the next wait."""
        try:
            self.launch()
            self.restarts += 1
        except (OSError, subprocess.SubprocessError, CloudMetricsError) as error:
            say(f"{self.name} cannot be started: {error}")

    async def stop(self, seconds: float) -> None:
        """Asks it to end, and makes it when time is up."""
        self._stopping = True
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        end = time.monotonic() + min(seconds, self.stop_seconds)
        while process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if process.poll() is None:
            process.kill()
            process.wait()


def python_child(module: str, *arguments: str, environ: dict[str, str], log: Path | None, niceness: int = 0) -> Start:
    """Starts `python -m module` from the checkout, its output in a log file; None: on our own stderr."""

    def start() -> subprocess.Popen[bytes]:
        if log is not None and log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old"))
        with open(log, "ab") if log is not None else nullcontext(sys.stderr) as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=CHECKOUT,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM, lambda: None if niceness == 0 else _nice(niceness)),
            )

    return start


def _nice(niceness: int) -> None:
    """Stands back. With Linux's autogroups a process's own niceness counts within its session only; the session's
    counts among sessions."""
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
