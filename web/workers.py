"""Several web processes behind one port: a parent that binds it, makes them, watches them and passes the end on.

They are forked from a parent that has everything imported and nothing open: a new one serves at once, and shares the
code's memory with the others. All accept from the one socket, so a connection that waits in its queue is lost with
none of them (with SO_REUSEPORT each would have a queue of its own, and take it along).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import Misconfigured
from core.orphans import dies_with_parent

log = logging.getLogger("web")

BACKLOG = 2048
BACKOFF_SECONDS = (0.2, 10.0)
# Who lived this long starts at once again, and has its back-off forgotten.
STEADY_SECONDS = 30.0
# Workers of a parent that was killed still have the port while they see it.
BIND_SECONDS = 5.0
_AWAITED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

Serve = Callable[[socket.socket, int], None]
Left = Callable[[int], None]


def listen(host: str, port: int) -> socket.socket:
    """The one listening socket.

    Raises:
        Misconfigured: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = time.monotonic() + BIND_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
            return listener
        except OSError as error:
            listener.close()
            if time.monotonic() >= end:
                raise Misconfigured(f"cannot listen on {host} port {port}: {error.strerror}") from None
        time.sleep(0.1)


@dataclass(slots=True)
class _Place:
    """One of the workers that should be there."""

    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    delay: float = BACKOFF_SECONDS[0]


class Workers:
    """A number of processes that run `serve` on one socket, each at a place; `left` is told of a place whose process
    has ended. `run` in the main thread of a process that has no other."""

    def __init__(self, number: int, listener: socket.socket, serve: Serve, left: Left, stop_seconds: float) -> None:
        self._places = [_Place() for _ in range(number)]
        self._listener = listener
        self._serve = serve
        self._left = left
        self._stop_seconds = stop_seconds
        self._mask: set[int] = set()

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and then until the last worker has ended; a second one ends them at once."""
        # Blocked and waited for: a signal that comes between a look and the wait is not missed.
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED))
        host, port = self._listener.getsockname()[:2]
        log.info("listening", extra={"action": "start", "address": f"{host}:{port}", "workers": len(self._places)})
        while True:
            self._start_missing()
            soonest = min((place.start_at for place in self._places if not place.pid), default=time.monotonic() + 60)
            signum = self._awaited(soonest - time.monotonic())
            if signum in (signal.SIGTERM, signal.SIGINT):
                return self._stop()
            self._reap()

    def _start_missing(self) -> None:
        for number, place in enumerate(self._places):
            if not place.pid and time.monotonic() >= place.start_at:
                try:
                    place.pid, place.started_at = self._fork(number), time.monotonic()
                except OSError as error:
                    self._put_off(place)
                    log.warning("worker cannot be started", extra={"action": "fail", "error": str(error)})

    def _fork(self, number: int) -> int:
        prepare = dies_with_parent(signal.SIGTERM)
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            prepare()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._serve(self._listener, number)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            log.exception("worker failed", extra={"action": "internal_error"})
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _awaited(self, seconds: float) -> int | None:
        found = signal.sigtimedwait(_AWAITED, max(0.0, seconds))
        return found.si_signo if found else None

    def _reap(self) -> None:
        while any(place.pid for place in self._places):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for number, place in enumerate(self._places):
                if place.pid == pid:
                    place.pid = 0
                    self._left(number)
                    self._put_off(place)
                    code, wait = os.waitstatus_to_exitcode(status), max(0.0, place.start_at - time.monotonic())
                    log.warning(
                        "worker ended; another follows",
                        extra={"action": "worker_retry", "pid": pid, "code": code, "seconds": round(wait, 1)},
                    )

    def _put_off(self, place: _Place) -> None:
        now = time.monotonic()
        if place.started_at and now - place.started_at > STEADY_SECONDS:
            place.delay, place.start_at = BACKOFF_SECONDS[0], now
            return
        place.start_at = now + place.delay
        place.delay = min(place.delay * 2, BACKOFF_SECONDS[1])

    def _stop(self) -> int:
        """Nothing new is taken: the workers' own copies of the socket are closed by their end."""
        self._listener.close()
        self._signal(signal.SIGTERM)
        end = time.monotonic() + self._stop_seconds
        for place in self._places:
            place.started_at = 0.0
        while any(place.pid for place in self._places):
            signum = self._awaited(min(1.0, end - time.monotonic()))
            if signum in (signal.SIGTERM, signal.SIGINT) or time.monotonic() >= end:
                self._signal(signal.SIGKILL)
                end = time.monotonic() + self._stop_seconds
            self._forget_ended()
        return 0

    def _forget_ended(self) -> None:
        for place in self._places:
            if place.pid and os.waitpid(place.pid, os.WNOHANG)[0]:
                place.pid = 0

    def _signal(self, signum: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signum)
