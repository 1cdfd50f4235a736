"""A range of a file is one range within it, or none."""

from __future__ import annotations

import pytest

from core.errors import InvalidRequest
from web.exports import Span, span_of

ETAG = '"abc"'


@pytest.mark.parametrize(
    "header, start, end",
    [("bytes=0-0", 0, 1), ("bytes=0-", 0, 100), ("bytes=10-19", 10, 20), ("bytes=90-1000", 90, 100),
     ("bytes=-5", 95, 100), ("bytes=-1000", 0, 100)],
)  # fmt: skip
def test_one_range_is_cut_to_the_file(header: str, start: int, end: int) -> None:
    assert span_of(header, "", ETAG, 100) == Span(start, end, is_part=True)
    assert span_of(header, ETAG, ETAG, 100) == Span(start, end, is_part=True)


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,3-4", "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000)), "bytes=100-", "bytes=5-4", "bytes=-0",
     "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1 ,", "bytes=" + "9" * 30 + "-", "0-1"],
)  # fmt: skip
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        span_of(header, "", ETAG, 100)
    assert (refusal.value.answer_status, refusal.value.code) == (416, "range_not_satisfiable")


def test_without_a_range_or_of_a_file_that_has_changed_all_is_sent() -> None:
    assert span_of("", "", ETAG, 100) == Span(0, 100, is_part=False)
    assert span_of("bytes=0-1", '"other"', ETAG, 100) == Span(0, 100, is_part=False)
