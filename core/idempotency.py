"""`Idempotency-Key`: a whole request's answer, kept a day and given again. In Valkey, by tenant and key.

An entry is the body's digest, the seed and time of the request that came first, and the answer once there is one.
While the first is under way the others are told to come back. Whoever finds it dead, or its answer not kept, does the
work again with the first one's seed and time: ids made of them are the same, so the ledger counts them once.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from core.errors import Conflict, InProgress, InvalidRequest, Unavailable
from core.topics import idempotency_bytes_key, idempotency_key
from core.valkey import VALKEY_AWAY, open_valkey

HEADER = "idempotency-key"
MAX_LENGTH = 255
LOCK_SECONDS = 30
# A day, and the hour by which the oldest slot of the budget may be late.
KEEP_SECONDS = 25 * 3600
CALL_SECONDS = 1.0
COME_BACK_SECONDS = 1.0
FULL_SECONDS = 60.0
# Of the log's bytes, since both lie in the same server; of those one tenant gets a part.
SHARE_OF_LOG = 8
SHARE_OF_TENANT = 4
# What an entry without its answer takes of the server's memory.
ENTRY_BYTES = 300
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

# KEYS: entry, bytes used by all, bytes used by the tenant. ARGV: digest, owner, lock seconds, seconds to keep, an
# entry's bytes, the most for all, the most for the tenant, time in ms and seed if this is the first.
# Answers what to do, and the first one's time and seed, or the kept answer.
_BEGIN = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local entry = redis.call('HMGET', KEYS[1], 'digest', 'first', 'lock', 'answer', 'seed')
if not entry[1] then
    for n = 2, 3 do
        local slots, used = redis.call('HGETALL', KEYS[n]), 0
        for at = 1, #slots, 2 do
            if tonumber(slots[at]) < now[1] - ARGV[4] then redis.call('HDEL', KEYS[n], slots[at])
            else used = used + slots[at + 1] end
        end
        if used + ARGV[5] > tonumber(ARGV[4 + n]) then return {'full'} end
    end
    for n = 2, 3 do
        redis.call('HINCRBY', KEYS[n], now[1] - now[1] % 3600, ARGV[5])
        redis.call('EXPIRE', KEYS[n], ARGV[4])
    end
    redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'first', ARGV[8], 'seed', ARGV[9])
    redis.call('HSET', KEYS[1], 'lock', ms + ARGV[3] * 1000, 'owner', ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[4])
    return {'first', ARGV[8], ARGV[9]}
end
if entry[1] ~= ARGV[1] then return {'other'} end
if entry[4] then return {'done', entry[4]} end
if entry[3] and tonumber(entry[3]) > ms then return {'busy'} end
redis.call('HSET', KEYS[1], 'lock', ms + ARGV[3] * 1000, 'owner', ARGV[2])
return {'again', entry[2], entry[5]}
"""
# KEYS: as above. ARGV: owner, answer, seconds to keep, the most for all answers, the most for the tenant's.
# An answer beyond the budget is not kept: its work is done again, and counts once all the same.
_FINISH = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'lock', 'owner')
local now = redis.call('TIME')
for n = 2, 3 do
    local used = #ARGV[2]
    for _, bytes in ipairs(redis.call('HVALS', KEYS[n])) do used = used + bytes end
    if used > tonumber(ARGV[2 + n]) then return 0 end
end
for n = 2, 3 do
    redis.call('HINCRBY', KEYS[n], now[1] - now[1] % 3600, #ARGV[2])
    redis.call('EXPIRE', KEYS[n], ARGV[3])
end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
# KEYS: as above. ARGV: owner, the bytes of the entry if it goes, 0 if only its lock does.
_RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('HDEL', KEYS[1], 'lock', 'owner') end
local now = redis.call('TIME')
for n = 2, 3 do redis.call('HINCRBY', KEYS[n], now[1] - now[1] % 3600, -ARGV[2]) end
return redis.call('DEL', KEYS[1])
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the work of a request makes ids from: of all with one key, those of the first."""

    seed: bytes
    first_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and whether it was kept from an earlier request."""

    body: bytes
    is_replayed: bool


Work = Callable[[Attempt], Awaitable[bytes]]


def checked_key(values: list[str]) -> str:
    """The key of a request's headers of that name.

    Raises:
        InvalidRequest: more than one, empty, too long, or with characters that are not printable ASCII.
    """
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise InvalidRequest(
            f"Idempotency-Key must be one header of 1 to {MAX_LENGTH} printable ASCII characters without spaces, such "
            "as a UUID.",
            code="invalid_idempotency_key",
            field=HEADER,
        )
    return values[0]


class Idempotency:
    """The entries of all tenants. `log_bytes`: the log's size, of which answers get a part."""

    def __init__(self, url: str, log_bytes: int) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS)
        self._begin_script = self._client.register_script(_BEGIN)
        self._finish_script = self._client.register_script(_FINISH)
        self._release_script = self._client.register_script(_RELEASE)
        self._most = log_bytes // SHARE_OF_LOG
        self._most_of_tenant = self._most // SHARE_OF_TENANT

    async def once(self, tenant_id: UUID, key: str, content: bytes, attempt: Attempt, work: Work) -> Answer:
        """The kept answer to this key and content; else does the work and keeps its answer. `attempt`: what the work
        makes ids from if nobody came before; an empty seed is made of key and content.

        Raises:
            Conflict: the key came with other content.
            InProgress: the first request is under way.
            Unavailable: nobody can tell right now, or no more keys can be kept; nothing was done.
        """
        digest, name = sha256(content).digest(), sha256(key.encode()).hexdigest()[:32]
        keys = [idempotency_key(tenant_id, name), idempotency_bytes_key(), idempotency_bytes_key(tenant_id)]
        owner = secrets.token_bytes(8)
        seed = attempt.seed or sha256(tenant_id.bytes + digest + key.encode()).digest()
        state, *kept = await self._begin(keys, digest, owner, Attempt(seed, attempt.first_ms))
        if state == "done":
            return Answer(zlib.decompress(kept[0]), is_replayed=True)
        try:
            body = await work(Attempt(kept[1], int(kept[0])))
        except Exception as error:
            # Of a first request that was refused nothing was taken: its key may come again with another body.
            is_refused = state == "first" and getattr(error, "status", 500) < 500
            await self._quietly(self._release_script(keys=keys, args=[owner, ENTRY_BYTES if is_refused else 0]))
            raise
        limits = [KEEP_SECONDS, self._most // 2, self._most_of_tenant // 2]
        await self._quietly(self._finish_script(keys=keys, args=[owner, zlib.compress(body), *limits]))
        return Answer(body, is_replayed=False)

    async def _begin(self, keys: list[str], digest: bytes, owner: bytes, attempt: Attempt) -> tuple[Any, ...]:
        limits = [LOCK_SECONDS, KEEP_SECONDS, ENTRY_BYTES, self._most, self._most_of_tenant]
        arguments: list[str | bytes | int] = [digest, owner, *limits, attempt.first_ms, attempt.seed]
        try:
            answer = await self._begin_script(keys=keys, args=arguments)
        except VALKEY_AWAY as error:
            raise Unavailable(
                "Whether this Idempotency-Key was used cannot be told right now; nothing was accepted. Send the same "
                "request again.",
                code="idempotency_unavailable",
            ) from error
        state = answer[0].decode()
        if state == "other":
            raise Conflict(
                "This Idempotency-Key came with another body before. Send a new key with a new body, or the first "
                "body as it was.",
                code="idempotency_conflict",
                field=HEADER,
            )
        if state == "busy":
            raise InProgress(
                "The first request with this Idempotency-Key is still under way. Send the same request again.",
                retry_after=COME_BACK_SECONDS,
            )
        if state == "full":
            raise Unavailable(
                "There is no room for more Idempotency-Keys today; nothing was accepted. Send the request without one: "
                "events that bear ids count once all the same.",
                retry_after=FULL_SECONDS,
                code="idempotency_full",
            )
        return state, *answer[1:]

    @staticmethod
    async def _quietly(call: Awaitable[object]) -> None:
        """What is not noted now is found out by the next request, when the lock has ended."""
        try:
            await call
        except VALKEY_AWAY:
            return

    async def close(self) -> None:
        await self._client.aclose()
