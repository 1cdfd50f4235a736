"""Records that can never be processed, and why."""

from __future__ import annotations

from uuid import uuid4

import pytest

from core.eventlog import Offset, Partition, Record
from core.events import encode_raw
from core.topics import RAW_PREFIX
from pipeline.enrich import _decode
from pipeline.worker import Poison
from tests.pipeline.builders import raw_batch


def test_a_record_in_the_name_of_another_tenant_is_poison() -> None:
    batch = raw_batch(uuid4(), {})
    place, start, end = Partition(RAW_PREFIX), Offset("1-0"), Offset("1-1")
    assert _decode(Record(place, start, end, batch.tenant_id.bytes, encode_raw(batch))).tenant_id == batch.tenant_id
    with pytest.raises(Poison, match="another tenant"):
        _decode(Record(place, start, end, uuid4().bytes, encode_raw(batch)))
