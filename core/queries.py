"""Named SQL: blocks of `sql/queries/<topic>.sql` become `Query` values; Python knows names, never text.

A block is a header `-- name(param, ...)`, one comment line of purpose, and the statement. The header is the
signature: the number of parameters must be the highest `$n` of the text. A statement may have `{parts}` that
`Query.filled` puts in from other named blocks, never from input; such a fragment has the header `-- name(...)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.errors import Misconfigured

QUERIES_FOLDER = Path(__file__).resolve().parent.parent / "sql" / "queries"
_HEADER = re.compile(r"^-- (?P<name>[a-z_0-9]+)\((?P<params>[a-z_0-9, ]*|\.\.\.)\)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement; `params` are the names of `$1`, `$2`, ..."""

    name: str
    params: tuple[str, ...]
    purpose: str
    text: str

    def filled(self, **parts: str) -> Query:
        """The statement with its `{parts}` put in; parts come from other named blocks only."""
        return Query(self.name, self.params, self.purpose, self.text.format(**parts))


def joined(*queries: Query) -> Query:
    """Statements without parameters as one, sent in one go."""
    if any(query.params for query in queries):
        raise Misconfigured("statements that are sent together have no parameters")
    first, text = queries[0], ";\n".join(query.text for query in queries)
    return Query(first.name, (), first.purpose, text)


def parse_blocks(text: str, origin: str) -> dict[str, Query]:
    """The named blocks of one file.

    Raises:
        Misconfigured: a header lacks its purpose line, is there twice, or differs from the `$n` of its text.
    """
    headers = list(_HEADER.finditer(text))
    blocks: dict[str, Query] = {}
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = text[header.end() : following.start() if following else len(text)].strip()
        purpose, _, statement = body.partition("\n")
        name = header["name"]
        params = tuple(p.strip() for p in header["params"].split(",") if p.strip())
        if not purpose.startswith("-- ") or name in blocks:
            raise Misconfigured(f"{origin}: block {name} needs a purpose line and a name of its own")
        highest = max((int(n) for n in _PLACEHOLDER.findall(statement)), default=0)
        if header["params"] == "...":
            params = ()
        elif highest != len(params):
            raise Misconfigured(f"{origin}: block {name} declares {len(params)} parameters and uses ${highest}")
        blocks[name] = Query(name, params, purpose.removeprefix("-- "), statement.strip().rstrip(";"))
    return blocks


@cache
def load(folder: Path, topic: str) -> dict[str, Query]:
    """All blocks of one topic's file."""
    path = folder / f"{topic}.sql"
    return parse_blocks(path.read_text(encoding="utf-8"), str(path.name))


def named(topic: str, name: str) -> Query:
    """The query `name` of `sql/queries/<topic>.sql`; bound at import, so a missing one stops the start.

    Raises:
        Misconfigured: there is no such block.
    """
    blocks = load(QUERIES_FOLDER, topic)
    if name not in blocks:
        raise Misconfigured(f"sql/queries/{topic}.sql has no block {name}")
    return blocks[name]
