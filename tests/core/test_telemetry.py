"""What is said of the process itself."""

from __future__ import annotations

from types import SimpleNamespace

from core.telemetry import without_unbegun


async def never_begun() -> None:
    raise AssertionError


def test_a_coroutine_that_never_began_is_nothing_to_tell_and_all_else_is() -> None:
    told: list[object] = []
    hook = without_unbegun(told.append)
    coroutine = never_begun()
    hook(SimpleNamespace(object=coroutine, exc_value=KeyError("__import__")))
    assert told == []
    others = [
        SimpleNamespace(object=coroutine, exc_value=KeyError("another")),
        SimpleNamespace(object=coroutine, exc_value=RuntimeError("__import__")),
        SimpleNamespace(object=object(), exc_value=KeyError("__import__")),
    ]
    for other in others:
        hook(other)
    coroutine.close()
    assert told == others
