"""`python -m web`: settings in, the HTTP server running until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys

import uvicorn

from core.errors import CloudMetricsError
from core.settings import Settings
from core.telemetry import start_logging
from web.app import create_app

WS_MAX_BYTES = 64 * 1024
PING_SECONDS = 20.0
STOP_SECONDS = 8


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m web", description="The HTTP and WebSocket server. Settings come from CLOUDMETRICS_… variables."
    )
    parser.parse_args()
    try:
        settings = Settings.from_env(os.environ)
        settings.master_key_bytes()
    except CloudMetricsError as error:
        print(f"web: {error.message}", file=sys.stderr)
        return 1
    start_logging(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WS_MAX_BYTES,
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
