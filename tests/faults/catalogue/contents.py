"""What stands in the log: poison, and a topic that vanishes."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from uuid import uuid4

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from core.database import as_owner
from core.errors import Unavailable
from core.events import RawBatch, encode_raw
from core.kafka.client import METADATA_SECONDS
from core.log import open_log
from core.topics import DEAD, raw_topic
from tests.faults.fault import KAFKA, DidNotStrike, Fault, Scene
from tests.faults.installation import WORKERS, Installation
from tests.faults.kafka_frames import no_produce_to
from tests.faults.proxy import FAIR, Cut, Weather

DEAD_LETTERS = "SELECT count(*) FROM dead_letters WHERE tenant_id = ANY($1::uuid[])"
WAIT_SECONDS = 60.0
# A worker that stops for too much poison; the next one goes on with what is left of it, and may stop as well.
STOPPED = tuple(f"{name} ended with 1" for name in WORKERS)


def append_poison(scene: Scene, values: list[bytes], keys: list[bytes] | None = None) -> None:
    """Raw records of the bystander's topic, past the door; keyed by the bystander unless told otherwise."""

    async def append() -> None:
        log = open_log(scene.site.direct)
        try:
            topic = raw_topic(scene.bystander.tenant.id, scene.site.direct.tenant_topics)
            for n, value in enumerate(values):
                await log.append(topic, keys[n] if keys else scene.bystander.tenant.id.bytes, value)
        finally:
            await log.close()

    asyncio.run(append())


def until_put_aside(scene: Scene, count: int, keys: list[bytes] | None = None) -> None:
    """Waits until so many dead letters are indexed."""
    tenants = [str(scene.bystander.tenant.id)] if keys is None else [key.hex() for key in keys]

    async def indexed() -> int:
        async with as_owner(scene.site.folder.database_url("superuser")) as connection:
            return int(await connection.fetchval(DEAD_LETTERS, tenants))

    end = time.monotonic() + WAIT_SECONDS
    while (found := asyncio.run(indexed())) != count:
        if time.monotonic() > end:
            raise DidNotStrike(f"{found} of {count} poisoned records are among the dead letters")
        scene.site.revive()
        time.sleep(0.3)


def poisons(scene: Scene) -> list[bytes]:
    """Not of our encoding, cut short, its body not JSON, with bad UTF-8, a NUL, 900 kB of nothing, or in the name of
    another tenant."""
    tenant = scene.bystander.tenant
    good = RawBatch(tenant.id, "key", "request", int(time.time() * 1000), [], body=b"{}")
    others = msgspec.structs.replace(good, tenant_id=scene.clients.members[0].tenant.id)
    return [
        encode_raw(others),
        b"\x00",
        b"\xff" * 40,
        encode_raw(good)[:-5],
        b"[]",
        bytes(900_000),
        b"\x00\x00\x00\x02\xff\xfe\xc1",
    ]


def poison(scene: Scene) -> None:
    values = poisons(scene)
    append_poison(scene, values)
    until_put_aside(scene, len(values))


def nothing_but_poison(scene: Scene) -> None:
    """A bad deploy spoils everybody's records: the worker stops, and the log is not emptied into the dead letters."""
    keys = [uuid4().bytes for _ in range(60)]
    append_poison(scene, [b"\xff" * 20] * len(keys), keys)
    stopped = scene.site.until_ended("worker-a", "worker-b", seconds=WAIT_SECONDS)
    if not stopped:
        raise DidNotStrike("no worker stopped")
    until_put_aside(scene, len(keys), keys)
    # Whoever did not stop remembers the last thousand records, and would stop for another fault's poison.
    for name in WORKERS:
        scene.site.restart(name)


def dead_letters_away(scene: Scene) -> None:
    """Poison comes while nothing can be written to the topic of dead letters."""
    site = scene.site
    proxy = site.proxies[site.log_server]
    proxy.weather(Weather(edits=no_produce_to(DEAD.encode()) if site.log == "kafka" else _no_append_to_dead))
    before = proxy.cuts
    append_poison(scene, poisons(scene)[:3])
    end = time.monotonic() + WAIT_SECONDS
    while proxy.cuts - before < 3:
        if time.monotonic() > end:
            raise DidNotStrike("nobody wrote a dead letter")
        time.sleep(0.1)
    proxy.weather(FAIR)
    until_put_aside(scene, 3)


def _no_append_to_dead() -> tuple[Cut, Cut]:
    def up(data: bytes) -> bytes | None:
        return None if b"XADD" in data and DEAD.encode() in data else data

    return up, lambda data: data


async def is_read(site: Installation, topic: str) -> bool:
    """Whether all records of a raw topic are taken from it in time."""
    log = open_log(site.direct)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with suppress(Unavailable):
                    if not sum((await log.lag("enrich", re.compile(re.escape(topic)))).values()):
                        return True
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    finally:
        await log.close()


def topic_deleted(scene: Scene) -> None:
    """A tenant's topic is deleted under writer and readers; other tenants do not notice, and its next events make it
    anew."""
    site, tenant = scene.site, scene.bystander.tenant
    scene.clients.send_once(scene.bystander, scene.dice)
    # What stands in a topic goes with it: only what was taken from it before may be asked for.
    topic = raw_topic(tenant.id, site.direct.tenant_topics)
    if not asyncio.run(is_read(site, topic)):
        raise DidNotStrike("the topic was not read to its end")

    async def delete() -> list[int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=site.direct.kafka_brokers)
        await admin.start()
        try:
            answer = await admin.delete_topics([topic])
            return [error for _, error in answer.topic_error_codes]
        finally:
            await admin.close()

    if asyncio.run(delete()) != [0]:
        raise DidNotStrike("the broker did not delete the topic")
    # Readers hear of it with their next news of topics; until then a new topic of that name is the old one to them.
    time.sleep(2 * METADATA_SECONDS)
    scene.clients.start(scene.bystander)


FAULTS = (
    Fault("F12", "topic deleted under its readers", topic_deleted, logs=KAFKA),
    Fault("F32", "poison of seven kinds", poison),
    Fault("F33", "nothing but poison", nothing_but_poison, may_end=STOPPED),
    Fault("F34", "dead letters' topic cannot be written", dead_letters_away),
)
