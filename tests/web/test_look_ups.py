"""Misses and good ones are kept apart, and what was not confirmed for a while is told from what was."""

from __future__ import annotations

import pytest

from core.errors import DatabaseUnavailable
from web.auth import look_ups as module
from web.auth.look_ups import MAX_GOOD, MAX_MISSES, LookUps


def test_any_number_of_misses_evicts_nothing_good_and_they_have_a_bound() -> None:
    look_ups: LookUps[int, str] = LookUps()
    look_ups.keep(-1, "good")
    for number in range(MAX_GOOD + MAX_MISSES + 1):
        look_ups.keep(number, None)
    good = look_ups.get(-1)
    assert good is not None and good.found == "good"
    assert sum(look_ups.get(number) is not None for number in range(MAX_GOOD + MAX_MISSES + 1)) == MAX_MISSES


def test_what_was_good_and_is_missing_now_is_a_miss_and_the_other_way_round() -> None:
    look_ups: LookUps[str, str] = LookUps()
    for found in ("good", None, "good again"):
        look_ups.keep("key", found)
        entry = look_ups.get("key")
        assert entry is not None and entry.found == found


def test_asking_in_vain_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    look_ups: LookUps[str, str] = LookUps()
    entry = look_ups.keep("key", "good")
    entry.looked_up_at -= 40
    entry.confirmed_at -= 40
    assert entry.is_older_than(5)
    assert not entry.asked_in_vain().is_older_than(5)
    with pytest.raises(DatabaseUnavailable):
        entry.require_confirmed()
    monkeypatch.setattr(module, "UNCONFIRMED_SECONDS", 60.0)
    entry.require_confirmed()
