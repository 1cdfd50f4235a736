"""A progress line on stderr: redrawn on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time

WIDTH = 30
TERMINAL_SECONDS = 0.1
FILE_SECONDS = 5.0


class Progress:
    """How far something is. `total` is in units of the positions shown, 0 when not known."""

    def __init__(self, name: str, total: int, *, counted: str = "lines") -> None:
        self._counted = counted
        self._name = name
        self._total = total
        self._started = time.monotonic()
        self._shown_at = self._started
        self._is_terminal = sys.stderr.isatty()

    def show(self, position: int, count: int, *, is_last: bool = False) -> None:
        """Draws, unless it was just drawn."""
        now = time.monotonic()
        if not is_last and now - self._shown_at < (TERMINAL_SECONDS if self._is_terminal else FILE_SECONDS):
            return
        self._shown_at = now
        rate = count / max(now - self._started, 1e-9)
        text = f"{self._name} {self._bar(position)}{count:,} {self._counted}, {rate:,.0f}/s"
        if self._is_terminal:
            sys.stderr.write(f"\r{text}\x1b[K" + ("\n" if is_last else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _bar(self, position: int) -> str:
        if not self._total:
            return ""
        share = min(position / self._total, 1.0)
        return f"[{'#' * int(share * WIDTH):{WIDTH}}] {share:4.0%}  "
