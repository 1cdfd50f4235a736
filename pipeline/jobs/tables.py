"""The tables of a tenant as an export reads them: found in the catalogue, in the order of their keys, bite by bite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.access import OF_OWNERS
from core.database import Database
from core.queries import Query, named
from core.tenancy import TenantId

LIST_COLUMNS = named("exports", "list_columns")
NEXT_ROWS = named("exports", "next_rows")
BITE = 1_000
LEFT_OUT = {
    "event_ids": "ids that were seen within 7 days; each event bears its own",
    "api_key_secrets": "secrets",
    "outbox": "mail whose links are good once",
}
_TENANT = "(SELECT current_setting('app.current_tenant')::uuid)"


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table, each a line of JSON, and the place of the last one (None: there are no more)."""

    lines: list[str]
    place: list[str] | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table, what of it is exported, and what is not."""

    name: str
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    keys: tuple[str, ...]
    types: tuple[str, ...]
    owner: str

    async def read(self, database: Database, tenant_id: TenantId, after: Sequence[str] | None) -> Rows:
        """Rows behind a place, or from the first on."""
        arguments = () if after is None else (list(after),)
        async with database.as_tenant(tenant_id, grantees=OF_OWNERS) as session:
            found = await session.fetch(self._query(is_first=after is None), *arguments)
        place = list(found[-1]["place"]) if len(found) == BITE else None
        return Rows([row["line"] for row in found], place)

    def _query(self, *, is_first: bool) -> Query:
        conditions = [f"t.{self.owner} = {_TENANT}"] if self.owner else []
        keys = [f"t.{key}" for key in self.keys]
        if not is_first:
            places = [f"($1::text[])[{n}]::{kind}" for n, kind in enumerate(self.types, 1)]
            # The first key alone as well: by it partitions are left out.
            conditions += [f"{keys[0]} >= {places[0]}", f"({', '.join(keys)}) > ({', '.join(places)})"]
        return NEXT_ROWS.filled(
            columns=", ".join(self.columns),
            places=", ".join(f"{key}::text" for key in keys),
            table=self.name,
            condition=" AND ".join(conditions) or "true",
            keys=", ".join(keys),
            most=str(BITE),
        )


async def tables_of(database: Database, tenant_id: TenantId) -> list[Table]:
    """What there is to export, by name."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(LIST_COLUMNS)
    by_name: dict[str, list[Any]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    return [_table(name, columns) for name, columns in by_name.items() if name not in LEFT_OUT]


def _table(name: str, rows: Sequence[Any]) -> Table:
    owner = rows[0]["owner_column"]
    keys = sorted((row for row in rows if row["key_place"] is not None), key=lambda row: int(row["key_place"]))
    # Of the tenant's own row, its id is the one key that there is.
    ordering = [row for row in keys if row["column_name"] != owner] or keys
    return Table(
        name,
        tuple(_expression(row) for row in rows if not row["is_left_out"]),
        tuple(row["column_name"] for row in rows if row["is_left_out"]),
        tuple(row["column_name"] for row in ordering),
        tuple(row["type"] for row in ordering),
        owner,
    )


def _expression(row: Any) -> str:
    column = f"t.{row['column_name']}"
    return f"encode({column}, 'hex') AS {row['column_name']}" if row["is_binary"] else column
