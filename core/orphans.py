"""A child process that does not outlive its parent, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(signum: int, before: Callable[[], None] | None = None) -> Callable[[], None]:
    """What a child calls first (a `preexec_fn`, or after a fork): it gets `signum` when its parent's thread ends,
    however that came about. Made in the parent.

    Any change of uid clears this, so `before` makes that change first.
    """
    parent = os.getpid()

    def prepare() -> None:
        if before is not None:
            before()
        if hasattr(_libc, "prctl"):
            _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
            if os.getppid() not in (parent, 0):
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare
