"""A connection that the other side reset, as uvloop tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def resets_as_away() -> Iterator[None]:
    """uvloop raises RuntimeError of a connection that the server reset before it was written to; here it is what it is
    on every other loop."""
    try:
        yield
    except RuntimeError as error:
        if "handler is closed" not in str(error):
            raise
        raise ConnectionResetError(str(error)) from error
