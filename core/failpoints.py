"""Fail points: exact steps at which a test has a process killed (-9) or frozen. Unarmed, a step costs one look.

| step | |
|---|---|
| `after_ack` | web: the log has the request, its 202 is not sent |
| `before_append` | enrich: nothing of the records is appended |
| `after_append` | enrich: all is appended, the log's offset is not moved |
| `before_commit` | aggregate: all is written, the transaction is not committed |
| `after_db` | aggregate: committed; word of what changed is not sent on |
| `after_commit` | aggregate: word is sent on, the log's offset is not moved |
| `before_hot` | bridge: word is read, the hot sets are not written |
| `after_hot` | bridge: the hot sets are written, nobody is told |
| `export_part` | jobs: a part of an export is written, and its place noted |
| `erase_bite` | jobs: some rows of a tenant are removed |
| `before_backfill_commit` | jobs: a bite of earlier events is counted, the transaction is not committed |
| `backfill_bite` | jobs: the same, committed |
| `before_erased` | jobs: all but the tenant itself is removed |
| `after_erased` | jobs: the tenant is gone; what is left of it in the log is not yet |
"""

from __future__ import annotations

import os
import signal

from core.errors import Misconfigured

STEPS = (
    "after_ack", "before_append", "after_append", "before_commit", "after_db", "after_commit", "before_hot",
    "after_hot", "export_part", "erase_bite", "before_erased", "after_erased",
    "before_backfill_commit", "backfill_bite",
)  # fmt: skip
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

# By step: how many times it is still passed, and what is done then.
_armed: dict[str, tuple[int, signal.Signals]] = {}


def arm(text: str) -> None:
    """Arms `step[:n[:kill|stop]]`, comma-separated: at the n-th pass (default 1) the process kills or stops itself.

    Raises:
        Misconfigured: not of that form.
    """
    _armed.clear()
    for part in filter(None, text.split(",")):
        given = part.split(":", 2)
        step, number, action = (*given, *("", "1", "kill")[len(given) :])
        if step not in STEPS or not number.isdecimal() or int(number) < 1 or action not in ACTIONS:
            raise Misconfigured(
                f"CLOUDMETRICS_FAIL_POINT has {part!r}; it takes step[:n[:kill|stop]] with one of {', '.join(STEPS)}"
            )
        _armed[step] = (int(number), ACTIONS[action])


def reached(step: str) -> None:
    """Says that a step is reached; does not return when this is the pass at which the process ends here."""
    if _armed and step in _armed:
        left, signum = _armed[step]
        if left > 1:
            _armed[step] = (left - 1, signum)
            return
        del _armed[step]
        os.kill(os.getpid(), signum)
