"""How a server of ours is started: never as root.

PostgreSQL refuses to run as root. In a user namespace of its own it is uid 1000 inside and root's files stay within
its reach outside, so nothing is chowned and a checkout under a closed home works. Where namespaces are refused it
runs as `nobody`, who must be able to reach the data folder and the binaries.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Callable
from pathlib import Path

from core.errors import Misconfigured

CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def can_make_user_namespace() -> bool:
    """Tried in a child, since it cannot be undone."""
    if not hasattr(_libc, "unshare"):
        return False
    child = os.fork()
    if child == 0:
        try:
            enter_user_namespace()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def enter_user_namespace() -> None:
    """This process becomes uid 1000 inside a namespace where that is who it was outside.

    Raises:
        OSError: the system refuses.
    """
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def unprivileged(folders: list[Path]) -> Callable[[], None] | None:
    """What to do in a child so that it is not root; None when nothing is needed.

    Raises:
        Misconfigured: as root, no namespace, and `nobody` cannot reach the folders.
    """
    if os.geteuid() != 0:
        return None
    if can_make_user_namespace():
        return enter_user_namespace
    nobody = pwd.getpwnam("nobody")
    for folder in folders:
        for part in [folder, *folder.resolve().parents]:
            if part.exists() and not part.stat().st_mode & 0o001 and part.stat().st_uid != nobody.pw_uid:
                raise Misconfigured(
                    f"PostgreSQL does not run as root, and its stand-in `nobody` cannot enter {part}. Run as an "
                    "ordinary user, or put the checkout and --data where everybody may enter."
                )

    def become_nobody() -> None:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    _give(folders[0], nobody.pw_uid, nobody.pw_gid)
    return become_nobody


def _give(folder: Path, uid: int, gid: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, uid, gid)
