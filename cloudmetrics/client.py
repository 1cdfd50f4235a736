"""A sender of events: signs, retries what may be retried, keeps several requests in flight."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from core.errors import CloudMetricsError, Misconfigured

PATH = "/v1/events"
IN_FLIGHT = 8
PATIENCE_SECONDS = 60.0
BACKOFF_SECONDS = (0.1, 2.0)
MAX_SHOWN = 10

_encoder = msgspec.json.Encoder()


class GaveUp(CloudMetricsError):
    """Nothing got through for a minute."""

    default_code = "gave_up"


class Refused(CloudMetricsError):
    """The server refuses the request as a whole, and would again."""

    default_code = "refused"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where to send, and as whom: `key_id` with a signing secret, or a bearer key alone."""

    url: str
    secret: str
    key_id: str = ""

    @classmethod
    def parse(cls, url: str, key: str) -> Credentials:
        """From `--key`: a publishable key, or `<key id>:<secret>`.

        Raises:
            Misconfigured: neither.
        """
        key_id, _, secret = key.rpartition(":")
        if not secret.startswith(("cm_sk_", "cm_pk_")) or (key_id and not key_id.startswith("key_")):
            raise Misconfigured("--key must be a publishable key cm_pk_…, or <key id>:<secret key cm_sk_…>")
        return cls(url.rstrip("/"), secret, key_id)

    def headers(self, body: bytes) -> dict[str, str]:
        """The headers that prove who sends this body."""
        if not self.key_id:
            return {"Authorization": f"Bearer {self.secret}"}
        now = int(time.time())
        text = f"{now}.POST.{PATH}.{hashlib.sha256(body).hexdigest()}"
        digest = hmac.digest(self.secret.encode(), text.encode(), "sha256").hex()
        return {"X-CM-Key": self.key_id, "X-CM-Signature": f"t={now},v1={digest}"}


@dataclass(slots=True)
class Tally:
    """What became of the events sent so far."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    refusals: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return self.accepted + self.duplicate + self.rejected


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one request, each as JSON, and how to name them to a person."""

    events: list[msgspec.Raw]
    names: list[str]


class Sender:
    """Sends batches; a batch that got no answer is sent again, since its ids make that safe."""

    def __init__(self, credentials: Credentials, client: httpx2.AsyncClient) -> None:
        self._credentials = credentials
        self._client = client
        self._pending: set[asyncio.Task[None]] = set()
        self._moved_at = time.monotonic()
        self.tally = Tally()

    async def send(self, batch: Batch) -> None:
        """Takes a batch; waits while too many are in flight.

        Raises:
            GaveUp, Refused: from an earlier batch.
        """
        while len(self._pending) >= IN_FLIGHT:
            await self._reap(asyncio.FIRST_COMPLETED)
        self._pending.add(asyncio.create_task(self._deliver(batch)))

    async def finish(self) -> None:
        """Waits for all answers."""
        while self._pending:
            await self._reap(asyncio.FIRST_COMPLETED)

    async def wait_counted(self, *, behind: int = 0) -> None:
        """Waits until everything is queryable, but for so many requests.

        Raises:
            GaveUp: the workers have not moved for a minute.
        """
        last: object = None
        while True:
            lag = await self._lag()
            if lag is not None and sum(lag.values()) <= behind:
                return
            if lag is not None and lag != last:
                last, self._moved_at = lag, time.monotonic()
            self._check_patience("the events are accepted, and the workers do not count them; see `status`")
            await asyncio.sleep(0.1)

    async def _reap(self, when: str) -> None:
        done, self._pending = await asyncio.wait(self._pending, return_when=when)
        for task in done:
            task.result()

    async def _deliver(self, batch: Batch) -> None:
        body = _encoder.encode({"events": batch.events, "historical": True})
        delay = BACKOFF_SECONDS[0]
        while True:
            wait = await self._attempt(batch, body)
            if wait is None:
                self._moved_at = time.monotonic()
                return
            self._check_patience(f"{self.tally.answered} events were answered; the same command again goes on")
            await asyncio.sleep(min(max(wait, delay), 5.0))
            delay = min(delay * 2, BACKOFF_SECONDS[1])

    async def _attempt(self, batch: Batch, body: bytes) -> float | None:
        """None when answered, else how long to wait before the next attempt."""
        headers = {"Content-Type": "application/json", **self._credentials.headers(body)}
        try:
            answer = await self._client.post(self._credentials.url + PATH, content=body, headers=headers)
        except httpx2.HTTPError:
            return 0.0
        if answer.status_code == 202:
            self._count(batch, msgspec.json.decode(answer.content))
            return None
        if answer.status_code == 429 or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            return float(after) if after.isdigit() else 0.0
        raise Refused(_message(answer))

    def _count(self, batch: Batch, receipt: dict[str, Any]) -> None:
        for result in receipt["results"]:
            match result["status"]:
                case "accepted":
                    self.tally.accepted += 1
                case "duplicate":
                    self.tally.duplicate += 1
                case _:
                    self.tally.rejected += 1
                    if len(self.tally.refusals) < MAX_SHOWN:
                        name = batch.names[result["index"]]
                        self.tally.refusals.append(f"{name}: {result['code']}: {result['message']}")

    async def _lag(self) -> dict[str, int] | None:
        try:
            answer = await self._client.get(f"{self._credentials.url}/health/ready")
            lag: dict[str, int] = answer.json()["lag"]
        except (httpx2.HTTPError, ValueError, KeyError):
            return None
        return {group: lag[group] for group in ("enrich", "aggregate")} if "enrich" in lag else None

    def _check_patience(self, advice: str) -> None:
        if time.monotonic() - self._moved_at > PATIENCE_SECONDS:
            raise GaveUp(f"nothing got through to {self._credentials.url} for {PATIENCE_SECONDS:.0f} s: {advice}.")


@asynccontextmanager
async def open_sender(credentials: Credentials) -> AsyncIterator[Sender]:
    """A sender with connections of its own."""
    limits = httpx2.Limits(max_connections=IN_FLIGHT + 2)
    async with httpx2.AsyncClient(timeout=10.0, limits=limits, trust_env=False) as client:
        yield Sender(credentials, client)


def _message(answer: httpx2.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{answer.status_code} {error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
