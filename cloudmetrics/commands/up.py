"""`up`: everything of the embedded size."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cloudmetrics.children import CHECKOUT
from cloudmetrics.data_folder import DEFAULT, DataFolder
from cloudmetrics.supervisor import Wanted, addresses, check_port, supervise
from core.errors import Misconfigured
from core.settings import PREFIX, Settings
from pipeline.enrichment.geo import GeoDatabase

SUMMARY = "start everything and wait until it answers"
DETACH_SECONDS = 90.0
READ_BACK = (
    '{"query":"{ breakdown(query:{metric:\\"events\\", range:{last:\\"1h\\"}, groupBy:[\\"type\\"]}) '
    '{ rows { labels { value } value } } }"}'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    parser.add_argument("--workers", type=int, metavar="N", help="web processes behind that port (default: 1)")
    parser.add_argument("--detach", action="store_true", help="return when ready, and go on in the background")
    parser.add_argument("--json", action="store_true", help="print one line of JSON with addresses and keys")
    parser.add_argument("--empty", action="store_true", help="first start: no generated traffic")
    parser.epilog = "settings, from the environment:\n" + "\n".join(
        f"  {PREFIX}{field.name.upper():22} {field.metadata['meaning']} (default: {field.default!r})"
        for field in dataclasses.fields(Settings)
    )


def run(args: argparse.Namespace) -> int:
    folder = DataFolder.at(args.data)
    folder.create()
    if args.detach:
        return _detach(args, folder)
    try:
        lock = folder.lock()
    except BlockingIOError:
        raise Misconfigured(_already(folder)) from None
    settings = _checked_settings(args, folder)
    folder.forget("run")
    try:
        return supervise(Wanted(folder, settings, args.empty), lambda block: _show(block, folder, is_json=args.json))
    finally:
        os.close(lock)


def _checked_settings(args: argparse.Namespace, folder: DataFolder) -> Settings:
    """The settings, refused before anything starts that could not live with them."""
    settings = folder.settings(os.environ, host=args.host, port=args.port, workers=args.workers)
    check_port(settings)
    if settings.geo_database:
        GeoDatabase(settings.geo_database)
    return settings


def _already(folder: DataFolder) -> str:
    url = folder.read("run").get("url", "starting")
    return f"{folder.path} is in use by a running instance ({url}); stop it with: down --data, or use another --data"


def _detach(args: argparse.Namespace, folder: DataFolder) -> int:
    """Starts a supervisor in a session of its own, and waits until it says where it listens."""
    try:
        os.close(folder.lock())
    except BlockingIOError:
        run_note = folder.read("run")
        if not run_note:
            raise Misconfigured(_already(folder)) from None
        _show({**addresses(run_note["url"]), **folder.read("credentials")}, folder, is_json=args.json)
        return 0
    _checked_settings(args, folder)
    folder.forget("run")
    command = [sys.executable, "-m", "cloudmetrics", "up", "--data", str(folder.path)]
    command += ["--host", args.host] if args.host else []
    command += ["--port", str(args.port)] if args.port else []
    command += ["--workers", str(args.workers)] if args.workers is not None else []
    command += ["--empty"] if args.empty else []
    log = folder.logs / "supervisor.log"
    offset = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    end = time.monotonic() + DETACH_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.stderr.write(log.read_bytes()[offset:].decode(errors="replace"))
            return 1
        if folder.read("run").get("pid") == process.pid:
            _show({**addresses(folder.read("run")["url"]), **folder.read("credentials")}, folder, is_json=args.json)
            return 0
        time.sleep(0.05)
    process.terminate()
    raise Misconfigured(f"not ready within {DETACH_SECONDS:.0f} s; see {log}")


def _show(block: dict[str, Any], folder: DataFolder, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(block), flush=True)
        return
    print(
        f"""
CloudMetrics is ready.

  GraphQL           {block["graphql"]}
  GraphQL socket    {block["graphql_ws"]}   (graphql-transport-ws)
  Events            {block["events"]}
  Schema            {block["url"]}/schema.graphql

  Tenant            {block["tenant"]}
  Sign in           {block["email"]}   by POST to {block["url"]}/auth/login, see docs/sign-in.md
  Password          {block["password"]}
  Secret key        {block["secret_key"]}
  Secret key id     {block["secret_key_id"]}
  Publishable key   {block["publishable_key"]}
  Data              {folder.path}

Send an event:
  curl {block["events"]} -H 'Authorization: Bearer {block["publishable_key"]}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"events":[{{"type":"signup","user_id":"ada","context":{{"user_agent":""}}}}]}}'
Read it back:
  curl {block["graphql"]} -H 'Authorization: Bearer {block["secret_key"]}' \\
    -H 'Content-Type: application/json' \\
    -d '{READ_BACK}'

Stop: Ctrl-C here, or `{_this_python()} -m cloudmetrics down --data '{folder.path}'` from elsewhere.
""",
        flush=True,
    )


def _this_python() -> str:
    """How a person in this folder calls the interpreter that has everything installed."""
    program = Path(sys.executable)
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else f"'{program}'"
