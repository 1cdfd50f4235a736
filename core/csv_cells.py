"""Cells of CSV files that spreadsheets open (RFC 4180), so that none of them is run as a formula. Pure; no I/O.

Source: OWASP ASVS 1.2.10. Text that begins as a formula does gets an apostrophe before it; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: object) -> str:
    """A value as a cell's text: no NUL, and nothing that a spreadsheet would work out. What comes before the first
    sign does not help: spreadsheets pass over spaces."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = ("" if value is None else str(value)).replace("\0", "")
        return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text
    return str(value)


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as lines that end with CR LF, every cell in quotes: no separator of another country's splits one."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [safe_cell(c) for c in row] for row in rows
    )
    return text.getvalue()
