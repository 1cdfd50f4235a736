"""`python -m web`: settings in, the HTTP server running until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import uvicorn
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ProtocolError

from core.errors import CloudMetricsError
from core.failpoints import arm
from core.heap import settle_heap
from core.settings import Settings
from core.telemetry import start_logging
from web.app import create_app
from web.socket_protocol import MAX_MESSAGE_BYTES, SocketProtocol

PING_SECONDS = 20.0
STOP_SECONDS = 8


class WithoutClientFaults(logging.Filter):
    """uvicorn logs as an error of ours, with a trace, what a client sends against the protocol, such as text that is
    no UTF-8. The socket is closed with its code; a line at INFO is enough. And it logs each handshake with its query,
    where a key may stand: that line is left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        if '"WebSocket %s"' in str(record.msg):
            return False
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, (UnicodeDecodeError, ProtocolError, WebSocketDisconnect)):
            record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
        return True


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m web", description="The HTTP and WebSocket server. Settings come from CLOUDMETRICS_… variables."
    )
    parser.parse_args()
    try:
        settings = Settings.from_env(os.environ)
        settings.master_key_bytes()
        arm(settings.fail_point)
    except CloudMetricsError as error:
        print(f"web: {error.message}", file=sys.stderr)
        return 1
    start_logging(settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(WithoutClientFaults())
    app = create_app(settings)
    settle_heap()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws=SocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=30,
        access_log=False,
        server_header=False,
        log_config=None,
        proxy_headers=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
