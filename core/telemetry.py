"""Logs: one JSON object a line on stderr, a constant message and fields. Names of what is measured."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import CoroutineType
from typing import Any, Literal

# What a log line's `action` may be.
Action = Literal[
    "start", "stop", "request", "internal_error", "worker_retry", "dead_letter", "leave_group", "live_reconnect",
    "make_partitions", "trim_log", "rebuild_hot", "fail", "replace_producer", "replace_consumer", "sign_in",
    "counts_retry", "move_events", "send_mail", "purge_deleted",
]  # fmt: skip

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Escapes everything, so that no input can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=True)


def start_logging(level: str) -> None:
    """Sends all logs of the process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    # It tells of every heartbeat and every retry; what matters of them is said by the workers themselves.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    sys.unraisablehook = without_unbegun(sys.unraisablehook)


def without_unbegun(tell: Callable[[Any], None]) -> Callable[[Any], None]:
    """A hook that says nothing of a coroutine which was cancelled before it began.

    graphql-core makes many fields' coroutines and drops those that wait for one that failed. Python warns of each, and
    where it is collected within a namedtuple's code, which has no builtins, the warning itself fails: with a trace of
    KeyError '__import__' that means nothing.
    """

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        is_warning = isinstance(error, KeyError) and error.args == ("__import__",)
        if not (is_warning and isinstance(unraisable.object, CoroutineType)):
            tell(unraisable)

    return hook
