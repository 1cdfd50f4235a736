"""A tenant's own metrics in the database: defined, edited as new versions, archived. Every write is audited, and all of
one tenant's come one after another, so that no two of them together make what each alone would be refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound, TooMany
from core.formula_checks import check_change, check_dependents, check_refers, expand, unit_of_formula
from core.members import lock_members
from core.metric_catalog import LIST_DEFINITIONS, definition_of, metrics_of
from core.metric_checks import (
    MAX_UNIT_LENGTH,
    Definition,
    checked_definition,
    checked_key,
    checked_texts,
    default_unit,
)
from core.metric_definitions import DefinedMetric, read_definition, write_definition
from core.metrics import MetricDefinition, MetricKind, Part
from core.queries import Query, named
from core.standing import require_standing
from core.tenancy import Principal

MAX_LIVE = 100
# Archived ones keep their keys.
MAX_OF_TENANT = 1_000
MAX_VERSIONS_A_DAY = 50
DAY_SECONDS = 86_400.0
MAX_SHOWN_VERSIONS = 50

_COLUMNS = named("metric_definitions", "columns").text


def _query(name: str) -> Query:
    return named("metric_definitions", name).filled(columns=_COLUMNS)


LIST = _query("list_metrics")
FIND_MANY = _query("find_metrics")
FIND_KEYS = _query("find_keys")
LIST_VERSIONS = named("metric_definitions", "list_versions")
HOLD_COUNTING = named("metric_definitions", "hold_counting")
RAISE_REVISION = named("metric_definitions", "raise_metrics_revision")
COUNT_MADE = named("metric_definitions", "count_made")
INSERT = named("metric_definitions", "insert_metric")
UPDATE = named("metric_definitions", "update_metric")
INSERT_VERSION = named("metric_definitions", "insert_version")
END_VERSION = named("metric_definitions", "end_version")
FIND_MEMBERS = named("access", "find_members")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord:
    """One of a tenant's own metrics; `definition` has the version that answers. `revision` counts edits of all kinds,
    `definition.version` those of what it counts."""

    id: UUID
    definition: MetricDefinition
    owner: str
    revision: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    archived_at: datetime | None

    @property
    def defined(self) -> DefinedMetric:
        assert self.definition.defined is not None
        return self.definition.defined

    @property
    def counted(self) -> Definition:
        return Definition(self.definition.kind, self.defined.aggregate, self.defined.formula)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricVersion:
    """One version; it never changes. `backfilled`: which part of the earlier events is counted, 0 to 1."""

    version: int
    definition: Definition
    ready_at: datetime | None
    backfilled: float
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDraft:
    """What people write of a metric. `unit` None: what fits; `owner` None: whoever makes it."""

    key: str
    definition: Definition
    unit: str | None = None
    description: str = ""
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChanges:
    """An edit; None stays as it is."""

    definition: Definition | None = None
    unit: str | None = None
    description: str | None = None
    owner: str | None = None


class MetricEditConflict(Conflict):
    """Somebody else has changed it since."""

    default_code = "revision_conflict"

    def __init__(self, theirs: MetricRecord, changed: Sequence[str]) -> None:
        super().__init__(
            f"The metric is at revision {theirs.revision} by now, changed by {theirs.updated_by}; look at both, and "
            "send yours again with that revision.",
            field="revision",
        )
        self.theirs = theirs
        self.changed = tuple(changed)


@dataclass(frozen=True, slots=True)
class MetricStore:
    """A tenant's own metrics, as one caller changes them."""

    database: Database
    principal: Principal
    request_id: str

    async def create(self, draft: MetricDraft) -> MetricRecord:
        """A new one, at version 1.

        Raises:
            BadInput: it cannot be defined so, or there are too many. TooMany: too many versions were made today.
            Conflict: the key is taken. PermissionDenied: the caller's role has just changed.
        """
        key, definition = checked_key(draft.key), checked_definition(draft.definition)
        checked_texts(draft.unit or "", draft.description)
        async with self._writing(is_of_version=True) as session:
            by_key = await self._definitions(session)
            await _check_room(session, is_new=True)
            unit = draft.unit if draft.unit is not None else _unit_for(definition, by_key)
            new = _as_metric(key, definition, unit)
            check_refers(new, by_key)
            owner = await self._owner(session, draft.owner)
            id = uuid4()
            if not await session.fetchrow(
                INSERT, id, key, definition.kind, unit, draft.description, owner, self.principal.actor
            ):
                raise Conflict(f"There is a metric {key!r}, perhaps archived; edit or unarchive it, or take another "
                               "key.", code="key_taken", field="key")  # fmt: skip
            await self._put_version(session, id, 1, definition)
            shown = {"key": key, "unit": unit, "description": draft.description, "owner": owner, **_shown(definition)}
            made = await _found(session, id)
            await self._audit(session, "metric.create", made, shown)
        return made

    async def update(self, id: UUID, revision: int, changes: MetricChanges) -> MetricRecord:
        """Another revision; a new version when what it counts is another. The same edit made twice is made once.

        Raises:
            NotFound, BadInput, TooMany, PermissionDenied; Conflict: it is archived, or a formula that refers to it
            would fail; MetricEditConflict, with the stored one, when `revision` is another.
        """
        definition = None if changes.definition is None else checked_definition(changes.definition)
        async with self._writing(is_of_version=definition is not None) as session:
            old = await _found(session, id)
            by_key = await self._definitions(session)
            unit = _new_unit(old, definition, changes.unit, by_key)
            before = _texts(old)
            after = {
                "unit": unit,
                "description": old.definition.description if changes.description is None else changes.description,
                "owner": old.owner if changes.owner is None else changes.owner,
            }
            changed = [name for name in after if after[name] != before[name]]
            is_new_version = definition is not None and definition != old.counted
            if is_new_version:
                changed.append("definition")
            if not changed:
                return old
            if revision != old.revision:
                raise MetricEditConflict(old, changed)
            if old.archived_at is not None:
                raise Conflict("The metric is archived; unarchive it first.", code="metric_archived", field="id")
            checked_texts(unit, after["description"])
            if "owner" in changed:
                await self._owner(session, after["owner"])
            counted = definition or old.counted
            check_change(_as_metric(old.definition.key, counted, unit), by_key)
            version = old.definition.version
            if is_new_version:
                await _check_room(session)
                version += 1
                await self._put_version(session, id, version, counted)
            values = (counted.kind, *after.values(), version, self.principal.actor, False)
            await session.execute(UPDATE, id, *values)
            made = await _found(session, id)
            diff: dict[str, Any] = {name: [before[name], after[name]] for name in changed if name != "definition"}
            if is_new_version:
                diff["definition"] = [_shown(old.counted), _shown(counted)]
            await self._audit(session, "metric.update", made, diff)
        return made

    async def archive(self, id: UUID) -> MetricRecord:
        """Counts it no more, and keeps its key; archived already, it is as it was.

        Raises:
            NotFound, PermissionDenied; Conflict: a formula refers to it.
        """
        async with self._writing(is_of_version=True) as session:
            old = await _found(session, id)
            if old.archived_at is not None:
                return old
            by_key = await self._definitions(session)
            check_dependents(old.definition.key, by_key, {k: m for k, m in by_key.items() if k != old.definition.key})
            await session.execute(END_VERSION, id, await self._raised(session))
            await session.execute(UPDATE, id, *_row(old), old.definition.version, self.principal.actor, True)
            made = await _found(session, id)
            await self._audit(session, "metric.archive", made, {"key": old.definition.key})
        return made

    async def unarchive(self, id: UUID) -> MetricRecord:
        """Counts it again, as a new version of the same definition: what came meanwhile is backfilled with the rest.

        Raises:
            NotFound, PermissionDenied, BadInput, TooMany.
        """
        async with self._writing(is_of_version=True) as session:
            old = await _found(session, id)
            if old.archived_at is None:
                return old
            await _check_room(session, is_new=True, is_known=True)
            check_refers(old.definition, await self._definitions(session))
            version = old.definition.version + 1
            await self._put_version(session, id, version, old.counted)
            await session.execute(UPDATE, id, *_row(old), version, self.principal.actor, False)
            made = await _found(session, id)
            await self._audit(session, "metric.unarchive", made, {"key": old.definition.key})
        return made

    async def _put_version(self, session: Session, id: UUID, version: int, definition: Definition) -> None:
        revision = await self._raised(session)
        await session.execute(END_VERSION, id, revision)
        text = write_definition(definition.aggregate, definition.formula)
        is_formula = definition.kind is MetricKind.FORMULA
        await session.execute(
            INSERT_VERSION, uuid4(), id, version, definition.kind, text, revision, is_formula, self.principal.actor
        )

    async def _definitions(self, session: Session) -> Mapping[str, MetricDefinition]:
        """What the tenant may ask at this moment."""
        return metrics_of(await session.fetch(LIST_DEFINITIONS, self.principal.tenant.id)).by_key

    async def _raised(self, session: Session) -> int:
        row = await session.fetchrow(RAISE_REVISION, self.principal.tenant.id)
        if row is None:
            raise NotFound("There is no such tenant any more.")
        return int(row["metrics_revision"])

    async def _owner(self, session: Session, owner: str | None) -> str:
        """Who owns it, as the audit trail names it: the caller, or a member."""
        if owner is None or owner == self.principal.actor:
            return self.principal.actor
        person = owner.removeprefix("person:")
        if not await session.fetch(FIND_MEMBERS, [UUID(person)]):
            raise BadInput("owner is no member of this tenant.", code="no_member", field="owner")
        return owner

    async def _audit(self, session: Session, action: str, record: MetricRecord, diff: Mapping[str, Any]) -> None:
        author = Author(self.principal.tenant.id, self.principal.actor, self.request_id)
        await audit(session, author, action, f"metric:{record.id}", diff)

    @asynccontextmanager
    async def _writing(self, *, is_of_version: bool) -> AsyncIterator[Session]:
        """One write transaction of a caller that still may. Where a version may come or end, no event of the tenant is
        counted until it commits: that comes first, in the order in which others lock too."""
        tenant = self.principal.tenant
        async with self.database.as_tenant(tenant.id, is_write=True) as session:
            if is_of_version:
                await session.execute(HOLD_COUNTING, tenant.id)
            await lock_members(session)
            await require_standing(session, self.principal)
            yield session


def record_of(row: Any) -> MetricRecord:
    """A metric from a row of its columns."""
    return MetricRecord(
        id=UUID(int=row["metric_id"].int),
        definition=definition_of(row),
        owner=row["owner"],
        revision=row["revision"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by"],
        archived_at=row["archived_at"],
    )


def version_of(row: Any) -> MetricVersion:
    """A version from a row of `list_versions`."""
    aggregate, formula = read_definition(row["definition"])
    return MetricVersion(
        version=row["version"],
        definition=Definition(MetricKind(row["kind"]), aggregate, formula),
        ready_at=row["ready_at"],
        backfilled=row["backfilled"],
        created_at=row["created_at"],
        created_by=row["created_by"],
    )


async def _found(session: Session, id: UUID) -> MetricRecord:
    row = await session.fetchrow(FIND_MANY, [id])
    if row is None:
        raise NotFound("There is no Metric with that id.", field="id")
    return record_of(row)


async def _check_room(session: Session, *, is_new: bool = False, is_known: bool = False) -> None:
    """Refuses a metric (`is_known`: one that was archived) or a version beyond what a tenant may have."""
    row = await session.fetchrow(COUNT_MADE, DAY_SECONDS)
    assert row is not None
    if is_new and row["live"] >= MAX_LIVE:
        raise BadInput(f"A tenant has at most {MAX_LIVE} metrics of its own; archive some.", code="too_many")
    if is_new and not is_known and row["all_of_them"] >= MAX_OF_TENANT:
        raise BadInput(f"A tenant has at most {MAX_OF_TENANT} metrics, archived ones included; unarchive and edit one.",
                       code="too_many")  # fmt: skip
    if row["versions"] >= MAX_VERSIONS_A_DAY:
        raise TooMany(
            f"{MAX_VERSIONS_A_DAY} versions of metrics were made within a day, each counted anew from all events; try "
            "again later.",
            retry_after=max(1.0, row["free_in"]),
            code="too_many_versions",
        )


def _as_metric(key: str, definition: Definition, unit: str) -> MetricDefinition:
    """A draft as formulas see it."""
    id = UUID(int=0)
    defined = DefinedMetric(id=id, metric_id=id, aggregate=definition.aggregate, formula=definition.formula)
    return MetricDefinition(key, definition.kind, Part.DEFINED, unit, "", defined=defined)


def _unit_for(definition: Definition, by_key: Mapping[str, MetricDefinition]) -> str:
    """The unit where its maker names none."""
    if definition.formula is None:
        return default_unit(definition)
    expand(definition.formula, by_key)
    return unit_of_formula(definition.formula, by_key)[:MAX_UNIT_LENGTH]


def _new_unit(
    old: MetricRecord, definition: Definition | None, given: str | None, by_key: Mapping[str, MetricDefinition]
) -> str:
    """The unit after an edit: what is given; one that nobody gave goes with what is counted."""
    if given is not None or definition is None:
        return old.definition.unit if given is None else given
    try:
        was_given = old.definition.unit != _unit_for(old.counted, by_key)
    except BadInput:
        was_given = True
    return old.definition.unit if was_given else _unit_for(definition, by_key)


def _texts(record: MetricRecord) -> dict[str, str]:
    return {"unit": record.definition.unit, "description": record.definition.description, "owner": record.owner}


def _row(record: MetricRecord) -> tuple[str, str, str, str]:
    return record.definition.kind, record.definition.unit, record.definition.description, record.owner


def _shown(definition: Definition) -> dict[str, Any]:
    """A definition as the audit trail has it."""
    stored = msgspec.json.decode(write_definition(definition.aggregate, definition.formula))
    return {"kind": definition.kind.value, **stored}
