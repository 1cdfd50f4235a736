"""Processes of a benchmark: started, pinned, frozen, their CPU time and memory read from /proc, stopped by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudmetrics.children import python_child

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15.0
# What is measured has a core of its own; the load and the servers beside it share the other.
SERVER_CORE = 0
OTHER_CORE = 1


@dataclass(slots=True)
class Running:
    """A process by the name under which its CPU time is reported."""

    name: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> float:
        """User and system time of it, its threads and its children, ended ones included."""
        return sum(_cpu_of(pid) for pid in family(self.pid))

    def memory_bytes(self) -> int:
        """Resident memory of it and its children; pages that they share count in each."""
        return sum(_resident_of(pid) for pid in family(self.pid))

    def pin(self, cores: Iterable[int]) -> None:
        """Every thread of it and its children, to those cores that there are."""
        wanted = set(cores) & os.sched_getaffinity(0) or os.sched_getaffinity(0)
        for pid in family(self.pid):
            for task in _listed(f"/proc/{pid}/task"):
                try:
                    os.sched_setaffinity(int(task), wanted)
                except ProcessLookupError:
                    continue

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def start(name: str, module: str, *arguments: str, environ: Mapping[str, str], log: Path) -> Running:
    """`python -m module` from the checkout; its words go to a file."""
    return Running(name, python_child(module, *arguments, environ=dict(environ), log=log)())


@dataclass(slots=True)
class CpuMeter:
    """CPU seconds of processes between two moments."""

    processes: list[Running]
    _before: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0

    def start(self) -> None:
        self._before = {running.name: running.cpu_seconds() for running in self.processes}
        self._started = time.perf_counter()

    def read(self) -> dict[str, float]:
        """CPU seconds by name since `start`."""
        return {running.name: running.cpu_seconds() - self._before[running.name] for running in self.processes}


def family(pid: int) -> list[int]:
    """A process and its children, all generations."""
    children: dict[int, list[int]] = {}
    for entry in _listed("/proc"):
        if entry.isdigit() and (fields := _stat_of(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def _stat_of(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; [] of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_of(pid: int) -> float:
    # utime, stime, and those of children that ended.
    return sum(int(number) for number in _stat_of(pid)[11:15]) / TICKS


def _resident_of(pid: int) -> int:
    fields = _stat_of(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
