"""What bounds enrichment: how long what it keeps may be, and that no step of it loses an event. Neither is silent: a
note goes with the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

MAX_URL_LENGTH = 1024
MAX_ID_LENGTH = 256
MAX_NAME_LENGTH = 100

T = TypeVar("T")


def cut(name: str, text: str, limit: int, notes: list[str]) -> str:
    """The first `limit` characters of a text that has more, and a note of it."""
    notes.append(f"{name}: cut to {limit} characters")
    return text[:limit]


def bounded(name: str, text: str | None, limit: int, notes: list[str]) -> str:
    """Text of at most `limit` characters; '' of none."""
    if text is None:
        return ""
    return text if len(text) <= limit else cut(name, text, limit, notes)


def attempt(step: Callable[..., T], asked: tuple[Any, ...], otherwise: T, notes: list[str]) -> T:
    """A step's answer, or what stands for it when the step fails."""
    try:
        return step(*asked)
    except Exception as error:  # a step may fail on what nobody foresaw; the event must not be lost for it
        notes.append(f"{step.__name__}: {type(error).__name__}")
        return otherwise
