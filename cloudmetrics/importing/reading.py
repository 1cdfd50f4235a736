"""Lines of files: plain, gzip or standard input, with a bound on their length."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from core.errors import Misconfigured

MAX_LINE_BYTES = 64 * 1024
# So often it is worth asking where in the file we are; only the progress bar wants to know.
LINES_A_LOOK = 100


class Line(NamedTuple):
    """One line without its end; `position` is where in the file (as stored) it was read, in bytes."""

    number: int
    text: bytes
    position: int
    is_too_long: bool = False


def size_of(path: str) -> int:
    """The size of a file as stored; 0 of standard input.

    Raises:
        Misconfigured: it cannot be read.
    """
    if path == "-":
        return 0
    try:
        return os.stat(path).st_size if Path(path).is_file() else _refuse(path, "it is not a file")
    except OSError as error:
        return _refuse(path, error.strerror or "unknown reason")


def read_lines(path: str) -> Iterator[Line]:
    """The lines of a file.

    Raises:
        Misconfigured: it cannot be read, or is broken gzip.
    """
    with ExitStack() as stack:
        try:
            stored: BinaryIO = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        except OSError as error:
            _refuse(path, error.strerror or "unknown reason")
        clear = stack.enter_context(gzip.open(stored)) if path.endswith(".gz") else stored
        number = position = 0
        try:
            while text := clear.readline(MAX_LINE_BYTES):
                if number % LINES_A_LOOK == 0 and path != "-":
                    position = stored.tell()
                number += 1
                is_too_long = not text.endswith(b"\n") and len(text) == MAX_LINE_BYTES
                if is_too_long:
                    _skip_rest(clear)
                yield Line(number, text.rstrip(b"\r\n"), position, is_too_long)
        except (OSError, EOFError) as error:
            _refuse(path, f"{error} after line {number}")


def _skip_rest(clear: object) -> None:
    while (more := clear.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):  # type: ignore[attr-defined]
        continue


def _refuse(path: str, reason: str) -> int:
    raise Misconfigured(f"{path} cannot be read: {reason}")
