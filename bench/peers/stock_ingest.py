"""Peer of I1: ingest as it is usually written. FastAPI, pydantic, a bucket in Redis, one Kafka record an event.

Started by the runner as `python -m bench.peers.stock_ingest <port>`; it checks the same signature as ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field
from redis.asyncio import Redis

TOPIC = "peer.events"
SECRET = os.environ["BENCH_SECRET"].encode()
BUCKET = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(1e8, (tonumber(state[1]) or 1e8) + (now - (tonumber(state[2]) or now)) * 1e6)
redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', now)
return tokens >= 1 and 1 or 0
"""


class Context(BaseModel):
    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    page_url: str | None = None
    referrer: str | None = None


class Event(BaseModel):
    id: UUID
    type: str = Field(min_length=1, max_length=200)
    timestamp: datetime
    session_id: str | None = None
    user_id: str | None = None
    properties: dict[str, Any] = {}
    context: Context = Context()


class Batch(BaseModel):
    events: list[Event] = Field(min_length=1, max_length=100)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = Redis.from_url(os.environ["CLOUDMETRICS_REDIS_URL"])
    app.state.bucket = app.state.redis.register_script(BUCKET)
    app.state.producer = AIOKafkaProducer(bootstrap_servers=os.environ["CLOUDMETRICS_KAFKA_BROKERS"], acks="all")
    await app.state.producer.start()
    yield
    await app.state.producer.stop()
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/events", status_code=202)
async def ingest(
    request: Request, batch: Batch, x_cm_key: str = Header(), x_cm_signature: str = Header()
) -> dict[str, int]:
    stamp, digest = (part.partition("=")[2] for part in x_cm_signature.split(","))
    text = f"{stamp}.POST./v1/events.{hashlib.sha256(await request.body()).hexdigest()}"
    if not hmac.compare_digest(hmac.new(SECRET, text.encode(), "sha256").hexdigest(), digest):
        raise HTTPException(401)
    if not await request.app.state.bucket(keys=[f"peer:{x_cm_key}"]):
        raise HTTPException(429)
    producer, key = request.app.state.producer, x_cm_key.encode()
    sent = [await producer.send(TOPIC, event.model_dump_json().encode(), key=key) for event in batch.events]
    await asyncio.gather(*sent)
    return {"accepted": len(batch.events)}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
        log_level="warning",
    )  # fmt: skip
