"""A group's reader of Valkey Streams.

Order within a group needs one reader at a time, so a consumer holds a lease on a stream while it reads. It reads with
XREAD from a place of its own, and moves the group there when the work is done: the group's place is what is committed.
XREADGROUP would move the group when the server sends its answer, and an answer can be lost (a connection that breaks, a
process that was frozen past its time-out, a retry within the client): the next read would begin behind a gap.
A read that has no effect may also be cut: what one poll has no room for is read again by the next.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from core.errors import LogUnavailable
from core.eventlog import Offset, OnAssigned, Partition, Record
from core.valkey_group import Members
from core.valkey_streams import (
    START,
    TOPIC_NEWS,
    after,
    before,
    entry_key,
    groups_of,
    log_errors,
    name_of,
    partitions_of,
    records_of,
    stream_of,
)

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
LEASE_RENEW_SECONDS = 3.0
TOPIC_REFRESH_SECONDS = 1.0
BLOCK_SECONDS = 1.0
COUNT_BATCH = 1000

HELD, TAKEN = 2, 1
_RENEW_OR_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]); return 2 end
if not owner then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]); return 1 end
return 0
"""
_GIVE_BACK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]); return 1 end
return 0
"""
# Moves the group to entry ARGV[3], ARGV[4] entries on, for the holder of the lease alone; again is harmless. The server
# forgets its count of entries read, and the lag with it, on every SETID that does not give one.
_MOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local function pairs_of(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local group = pairs_of(flat)
  if group['name'] == ARGV[2] then
    if group['last-delivered-id'] == ARGV[3] then return 1 end
    local read = group['entries-read']
    if not read and group['last-delivered-id'] == '0-0' then
      local stream = pairs_of(redis.call('XINFO', 'STREAM', KEYS[2]))
      read = stream['entries-added'] - stream['length']
    end
    if read then
      redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], ARGV[3], 'ENTRIESREAD', math.max(read + ARGV[4], 0))
    else
      redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], ARGV[3])
    end
    return 1
  end
end
return 0
"""


@dataclass(slots=True)
class _Place:
    """Where this consumer is on a stream it holds: what it read last, and what of it is not committed."""

    read: str
    renewed_at: float
    open: deque[str] = field(default_factory=deque)


class ValkeyConsumer:
    """`Consumer` on Valkey Streams."""

    def __init__(self, client: Any, group: str, topics: re.Pattern[str], on_assigned: OnAssigned | None) -> None:
        self._client = client
        self._group = group
        self._topics = topics
        self._on_assigned = on_assigned
        self._name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._members = Members(client, group, self._name)
        self._held: dict[Partition, _Place] = {}
        # Whose turn it is to be read first, where not all can be read at once.
        self._turn = 0
        self._looked_at = float("-inf")
        self._news = START
        self._renew_or_take = client.register_script(_RENEW_OR_TAKE)
        self._give_back = client.register_script(_GIVE_BACK)
        self._move = client.register_script(_MOVE)

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        async with log_errors():
            await self._keep_leases()
            records = await self._read(max_records, wait_seconds)
        for record in records:
            place = self._held[record.partition]
            place.read = record.offset
            place.open.append(record.offset)
        return records

    async def _read(self, most: int, wait_seconds: float) -> list[Record]:
        """As many records of each partition as there are of any other; what is left of `most` then goes to those that
        have more. Nothing is moved by a read."""
        share = max(1, most // max(1, len(self._held)))
        wait_ms = max(1, int(min(wait_seconds, BLOCK_SECONDS) * 1000))
        answer = await self._client.xread(
            {TOPIC_NEWS: self._news, **{stream_of(at): place.read for at, place in self._held.items()}},
            count=share,
            block=wait_ms,
        )
        records, news = records_of(answer)
        if news is not None:
            self._news, self._looked_at = news, float("-inf")
        found: dict[Partition, list[Record]] = {}
        for record in records:
            found.setdefault(record.partition, []).append(record)
        if len(records) >= most:
            return self._in_turn(found, most)
        longer = [partition for partition, mine in found.items() if len(mine) == share]
        if longer and len(found) < len(self._held):
            rest = (most - len(records)) // len(longer)
            places = {stream_of(at): found[at][-1].offset for at in longer}
            more = await self._client.xread(places, count=rest) if rest else None
            for record in records_of(more)[0]:
                found[record.partition].append(record)
        return [record for mine in found.values() for record in mine]

    def _in_turn(self, found: dict[Partition, list[Record]], most: int) -> list[Record]:
        """So many of them, whole partitions first to last, beginning with another one each time."""
        order = sorted(found)
        self._turn = (self._turn + most) % len(order)
        return [record for at in (*order[self._turn :], *order[: self._turn]) for record in found[at]][:most]

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        async with log_errors():
            for partition, offset in offsets.items():
                place = self._held.get(partition)
                if place is None:
                    continue
                done = 0
                while place.open and entry_key(place.open[0]) < entry_key(offset):
                    place.open.popleft()
                    done += 1
                await self._move_group(partition, before(offset), done)

    async def rewind(self) -> None:
        """Gives every lease back: to take one is to begin where the group, or the offset kept elsewhere, stands."""
        # All are forgotten before the server is asked for anything: what it does not answer is begun anew as well.
        held = list(self._held)
        self._held.clear()
        self._looked_at = float("-inf")
        async with log_errors():
            for partition in held:
                await self._give_back(keys=[self._lease(partition)], args=[self._name])

    async def close(self) -> None:
        try:
            await self.rewind()
            async with log_errors():
                await self._members.leave()
        except LogUnavailable:
            log.warning("leases left to expire", extra={"action": "leave_group"})

    def _lease(self, partition: Partition) -> str:
        return f"cm:lease:{self._group}:{name_of(partition)}"

    async def _move_group(self, partition: Partition, entry: str, distance: int) -> None:
        keys, args = [self._lease(partition), stream_of(partition)], [self._name, self._group, entry, distance]
        try:
            is_moved = await self._move(keys=keys, args=args)
        except ResponseError:
            is_moved = False
        if not is_moved:
            # The lease ran out, or the server came back without stream or group: whoever holds it begins anew.
            self._held.pop(partition, None)

    async def _keep_leases(self) -> None:
        now = time.monotonic()
        wanted = set(self._held)
        if now - self._looked_at > TOPIC_REFRESH_SECONDS:
            self._looked_at = now
            wanted = set(await self._members.mine(await partitions_of(self._client, self._topics)))
            await self._leave_to_others(wanted)
            wanted |= set(self._held)
        for partition in sorted(wanted):
            place = self._held.get(partition)
            if place is None or now - place.renewed_at > LEASE_RENEW_SECONDS:
                await self._keep_lease(partition, now)

    async def _leave_to_others(self, mine: set[Partition]) -> None:
        """Gives back what falls to another member by now; what is at work is kept until it is committed."""
        for partition in [at for at, place in self._held.items() if at not in mine and not place.open]:
            del self._held[partition]
            await self._give_back(keys=[self._lease(partition)], args=[self._name])

    async def _keep_lease(self, partition: Partition, now: float) -> None:
        state = int(await self._renew_or_take(keys=[self._lease(partition)], args=[self._name, LEASE_SECONDS * 1000]))
        if state == HELD and partition in self._held:
            self._held[partition].renewed_at = now
            return
        self._held.pop(partition, None)
        if state in (HELD, TAKEN):
            read = await self._assign(partition)
            self._held[partition] = _Place(read, now)

    async def _assign(self, partition: Partition) -> str:
        """The entry to read on from: before the offset that this consumer keeps itself, else where the group stands."""
        stream = stream_of(partition)
        try:
            await self._client.xgroup_create(stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        stored = await self._on_assigned([partition]) if self._on_assigned else {}
        found = (await groups_of(self._client, stream)).get(self._group)
        if found is None:
            raise LogUnavailable(retry_after=1.0)
        position: str = found["last-delivered-id"].decode()
        if partition not in stored:
            return position
        read = before(stored[partition])
        if read != position:
            await self._move_group(partition, read, await self._distance(stream, position, read))
        return read

    async def _distance(self, stream: str, start: str, end: str) -> int:
        """How many entries `end` is after `start`; below 0 when it is before."""
        if entry_key(end) < entry_key(start):
            return -await self._distance(stream, end, start)
        count = 0
        while found := await self._client.xrange(stream, after(start), end, count=COUNT_BATCH):
            count += len(found)
            start = found[-1][0].decode()
        return count
