"""The audit trail: who changed what, when, by which request."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, cast

import msgspec
import strawberry
from strawberry import Info

from core.audit_chain import ChainedEntry
from core.audit_trail import AuditFilter as AuditConditions
from core.permissions import Permission
from resolvers.audit import ask_audit_export
from resolvers.context import Context
from resolvers.global_ids import global_id
from schema.described import enum_of
from schema.guarded import mutation, shown_to
from schema.jobs import Job
from schema.node import Node
from schema.scalars import JSONValue


@strawberry.input(description="Which entries; all conditions must hold.")
class AuditFilter:
    actor: str | None = strawberry.field(
        default=None, description="Who: a key's id, `person:` and a person's, `operator`, `job:` and a job's."
    )
    action: str | None = strawberry.field(
        default=None, description="How the action begins, such as `key.` or `key.create`."
    )
    subject: str | None = strawberry.field(default=None, description="What was changed: an id, or a slug.")
    from_: datetime | None = strawberry.field(name="from", default=None, description="At or after.")
    to: datetime | None = strawberry.field(default=None, description="Before.")

    def to_domain(self) -> AuditConditions:
        return AuditConditions(self.actor, self.action, self.subject, self.from_, self.to)


@shown_to(Permission.AUDIT_READ)
@strawberry.type(
    description="An entry of the audit trail. Entries form a chain: each bears the hash of the one before it."
)
class AuditEntry(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("AuditEntry", str(cast(ChainedEntry, self).id)))

    @strawberry.field(description="Its place in the chain, from 1 on without holes; a whole number.")
    def sequence(self) -> float:
        return float(cast(ChainedEntry, self).sequence)

    at: datetime = strawberry.field(description="When it was written.")
    actor: str = strawberry.field(
        description="Who: a key's id, `person:` and a person's, `operator`, `job:` and a job's."
    )
    action: str = strawberry.field(description="What was done, such as key.create; `write.refused` is what was not.")
    subject: str = strawberry.field(description="What it was done to.")

    @strawberry.field(description="What changed: new values, or [old, new]; secrets are never in it.")
    def diff(self) -> JSONValue:
        return JSONValue(msgspec.json.decode(cast(ChainedEntry, self).diff))

    request_id: str = strawberry.field(description="The request that did it, as its answer's X-Request-Id said.")

    @strawberry.field(description="SHA-256 of the entry and the hash before it, in hex.")
    def hash(self) -> str:
        return cast(ChainedEntry, self).hash.hex()

    @strawberry.field(description="The hash of the entry before it, in hex; zeros before the first.")
    def previous_hash(self) -> str:
        return cast(ChainedEntry, self).previous_hash.hex()

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, ChainedEntry)


class AuditFormat(Enum):
    """How an export of the audit trail is written."""

    JSON_LINES = "json_lines"
    CSV = "csv"


enum_of(
    AuditFormat,
    "How an export of the audit trail is written.",
    JSON_LINES="An entry a line, which can be verified again.",
    CSV="For spreadsheets; a cell that one would work out begins with '.",
)


@strawberry.input(description="Which entries to write into a file, and how.")
class ExportAuditLogInput:
    format: AuditFormat = strawberry.field(
        default=AuditFormat.JSON_LINES,
        description="JSON_LINES can be verified again; in CSV, cells that a spreadsheet would work out begin with '.",
    )
    filter: AuditFilter | None = strawberry.field(default=None, description="Which entries; all of them without.")


@shown_to(Permission.AUDIT_READ)
@strawberry.type(description="The export is asked for; `job` says how far it is.")
class ExportAuditLogPayload:
    job: Job = strawberry.field(description="The job that writes the file.")


async def resolve_export_audit_log(info: Info[Context, None], input: ExportAuditLogInput) -> ExportAuditLogPayload:
    """Asks for a file of entries."""
    wanted = (input.filter or AuditFilter()).to_domain()
    job: Any = await ask_audit_export(info.context, input.format.value, wanted)
    return ExportAuditLogPayload(job=job)


@strawberry.type
class AuditMutations:
    export_audit_log = mutation(
        Permission.AUDIT_READ,
        resolve_export_audit_log,
        ExportAuditLogPayload,
        "Writes entries of the audit trail into a file, as a job.",
    )
