"""A small disk that can be filled: a tmpfs of a set size, mounted in the temp folder. Needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1024 * 1024
PIECE = 256 * 1024


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Takes all the space that is left."""
        piece = bytes(PIECE)
        with open(self._ballast, "ab", buffering=0) as file:
            while piece:
                try:
                    file.write(piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece = piece[: len(piece) // 2]

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


def why_no_disk(folder: Path) -> str:
    """Why no disk can be mounted below a folder; '' when it can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        with mounted(folder / "probe", 1):
            return ""
    except subprocess.CalledProcessError as error:
        return f"mount: {error.stderr.decode().strip()}"


@contextmanager
def mounted(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of that size until the end of the block."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
