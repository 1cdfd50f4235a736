"""How many sockets a process may hold: the soft limit of a login shell (1,024) is for programs that call select()."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Raises the soft limit of open files to the hard one, which needs no privilege; what it is then."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
