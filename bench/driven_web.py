"""Ours in F1 to F3: the whole web process, whose live streams are told by the benchmark what to tell, instead of asking
the engine what changed. Everything after a frame is made is the product's: the hub's log, ring and readers, the
selection executed on it, its encoding, the socket. Started by the runner as `python -m bench.driven_web`."""

from __future__ import annotations

import asyncio
import os
import time

import uvicorn
import uvloop

from bench.driving import Driver, now_us
from core.settings import Settings
from core.telemetry import start_logging
from query.answer import Columns, Series
from query.frames import FrameKind, Shown, whole
from resolvers import live_hub
from resolvers.live_stream import LiveStream
from web.__main__ import config_of
from web.app import create_app

_driven: list[DrivenStream] = []


class DrivenStream(LiveStream):
    """A stream of one bucket, whose value is the moment it was told."""

    async def run(self, is_hearing: asyncio.Event) -> None:
        await is_hearing.wait()
        self.log.shown = [_shown(now_us())]
        self.log.is_answered = True
        self._tell(FrameKind.SNAPSHOT, whole(self.log.shown))
        _driven.append(self)
        await asyncio.Event().wait()

    def say(self, number: int) -> None:
        shown = _shown(number)
        self.log.shown = [shown]
        self._tell(FrameKind.DELTA, (shown.change(0, shown.columns),))


def _shown(number: int) -> Shown:
    minute = int(time.time()) // 60 * 60_000
    return Shown(Columns([minute], [Series({}, [number], number)]))


def say_to_all(number: int) -> None:
    for stream in _driven:
        if stream.readers:
            stream.say(number)


async def serve() -> None:
    settings = Settings.from_env(os.environ)
    server = uvicorn.Server(config_of(create_app(settings), settings))
    driving = asyncio.create_task(Driver(say_to_all).run())
    await server.serve()
    driving.cancel()


if __name__ == "__main__":
    start_logging("WARNING")
    live_hub.LiveStream = DrivenStream  # type: ignore[attr-defined]
    uvloop.run(serve())
