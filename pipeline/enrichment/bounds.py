"""How long what enrichment keeps may be. A cut is noted on the event, never silent."""

from __future__ import annotations

MAX_URL_LENGTH = 1024
MAX_ID_LENGTH = 256
MAX_NAME_LENGTH = 100


def cut(name: str, text: str, limit: int, notes: list[str]) -> str:
    """The first `limit` characters of a text that has more, and a note of it."""
    notes.append(f"{name}: cut to {limit} characters")
    return text[:limit]
