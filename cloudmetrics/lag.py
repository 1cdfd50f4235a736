"""How far each group of workers is behind: by topic, partition and tenant."""

from __future__ import annotations

from dataclasses import dataclass

from core import accounts
from core.database import Database
from core.errors import Unavailable
from core.log import open_log
from core.settings import Settings
from core.topics import GROUPS, raw_topic


@dataclass(frozen=True, slots=True, order=True)
class Behind:
    """Records of one partition that a group has not done. `tenant` is whose topic it is; '' for one that all share."""

    group: str
    topic: str
    partition: int
    tenant: str
    records: int


async def read_lag(settings: Settings) -> list[Behind]:
    """Every partition that some group reads, done with or not.

    Raises:
        LogUnavailable: the log does not answer.
    """
    owners = await _owners(settings)
    log = open_log(settings)
    try:
        found = [
            Behind(group, partition.topic, partition.number, owners.get(partition.topic, ""), records)
            for group, topics in GROUPS.items()
            for partition, records in (await log.lag(group, topics)).items()
        ]
    finally:
        await log.close()
    return sorted(found)


async def _owners(settings: Settings) -> dict[str, str]:
    """Slugs of tenants by their own topics; none while the database is away."""
    database = Database(settings, pool_size=1)
    try:
        return {raw_topic(tenant.id, "each"): tenant.slug for tenant in await accounts.list_tenants(database)}
    except Unavailable:
        return {}
    finally:
        await database.close()
