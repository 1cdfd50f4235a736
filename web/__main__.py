"""`python -m web`: settings in, the HTTP server running until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ProtocolError

from core.errors import CloudMetricsError
from core.failpoints import arm
from core.heap import settle_heap
from core.settings import PREFIX, Settings
from core.telemetry import start_logging
from schema.trusted import TrustedDocuments, TrustMode
from web.app import create_app
from web.http_protocol import HttpProtocol
from web.open_files import raise_open_files
from web.shared_server import ConnectionCounts, SharedServer
from web.socket_protocol import MAX_MESSAGE_BYTES, SocketProtocol
from web.workers import Workers, listen

PING_SECONDS = 20.0
STOP_SECONDS = 8
# What a worker may take beyond that, for its clients to close.
LINGER_SECONDS = 2


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
    parser.add_argument("--workers", metavar="N", help="processes behind the port (default: CLOUDMETRICS_WEB_WORKERS)")
    workers = parser.parse_args().workers
    try:
        given = {} if workers is None else {f"{PREFIX}WEB_WORKERS": workers}
        settings = Settings.from_env({**os.environ, **given})
        settings.master_key_bytes()
        TrustedDocuments.load(TrustMode(settings.trusted_documents), settings.trusted_documents_path)
        arm(settings.fail_point)
        listener = listen(settings.host, settings.port) if settings.web_workers > 1 else None
    except CloudMetricsError as error:
        print(f"web: {error.message}", file=sys.stderr)
        return 1
    start_logging(settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(WithoutClientFaults())
    raise_open_files()
    # It opens its clients in the event loop of the process that runs it, so it may be made before that process is.
    config = config_of(create_app(settings), settings)
    settle_heap()
    if listener is not None:
        return serve_shared(config, listener, settings.web_workers)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()
    return 0


def serve_shared(config: uvicorn.Config, listener: socket.socket, workers: int) -> int:
    """Several processes on one socket, until told to end."""
    counts = ConnectionCounts(workers)

    def serve(shared: socket.socket, place: int) -> None:
        SharedServer(config, counts, place).run([shared])

    return Workers(workers, listener, serve, counts.leave, STOP_SECONDS + LINGER_SECONDS).run()


def config_of(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How one process serves."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=HttpProtocol,
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


if __name__ == "__main__":
    sys.exit(main())
