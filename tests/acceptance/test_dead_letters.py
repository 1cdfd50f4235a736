"""What no worker could process is kept, shown, and counted once when it is replayed after all."""

from __future__ import annotations

import asyncio
import os
import re
import time
from uuid import UUID

import pytest

from cloudmetrics.data_folder import DataFolder
from core.log import open_log
from core.topics import raw_topic
from tests.acceptance.test_tenant_topics import counted, send
from tests.conftest import Instance

pytestmark = pytest.mark.slow

BYTES = b"no record of ours"


def test_a_letter_is_listed_shown_replayed_and_dropped(instance: Instance) -> None:
    tenant_id = UUID(re.findall(r"demo .* ([0-9a-f-]{36})", instance.cli("tenant", "list").stdout)[0])
    assert "no dead letters" in instance.cli("deadletters", "list").stdout
    asyncio.run(append(instance, tenant_id, BYTES))
    place = wait_for_letter(instance)
    assert place.startswith(f"enrich:events.raw.{tenant_id}:0:")
    assert instance.cli("deadletters", "show", place).stdout.encode() == BYTES
    assert "1 dead letters" in instance.cli("deadletters", "list", "--tenant", "demo").stdout

    # Nothing was mended: replayed, it is put aside again, at its new place.
    assert "replayed 1" in instance.cli("deadletters", "replay", place).stdout
    again = wait_for_letter(instance)
    assert again != place
    refused = instance.cli("deadletters", "drop", place, check=False)
    assert refused.returncode == 1 and "There is no dead letter" in refused.stderr
    assert "dropped 1" in instance.cli("deadletters", "drop", "--all").stdout
    assert "no dead letters" in instance.cli("deadletters", "list").stdout
    # The others' events went their way all the time.
    assert send(instance, ["0190b6f0-7e5a-7000-8000-2f1d8f6f4a11"]) == 1
    deadline = time.monotonic() + 20
    while counted(instance) != 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert counted(instance) == 1


async def append(instance: Instance, tenant_id: UUID, value: bytes) -> None:
    log = open_log(DataFolder.at(instance.data).running_settings(os.environ))
    try:
        await log.append(raw_topic(tenant_id, "each"), tenant_id.bytes, value)
    finally:
        await log.close()


def wait_for_letter(instance: Instance) -> str:
    """The place of the one letter."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listed = instance.cli("deadletters", "list").stdout
        if found := re.match(r"(\S+)  tenant", listed):
            return found[1]
        time.sleep(0.2)
    pytest.fail(listed)
