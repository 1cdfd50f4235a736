"""Saved questions in the database: named, described, tagged, with an owner and an access list. What is asked is JSON
here; the query engine's package reads it. Every write is audited, and judged in its own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from core.access import AccessList, Grant, Level, grantees_of, level_of, require
from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound, PermissionDenied
from core.queries import Query, named
from core.standing import require_standing
from core.tenancy import Principal, checked_name

KIND = "question"
MAX_DESCRIPTION_LENGTH = 2_000
MAX_TAGS = 20
MAX_TAG_LENGTH = 50
# Of one owner, deleted ones included: only this keeps a runaway program from filling the table.
MAX_OF_OWNER = 5_000

_COLUMNS = named("questions", "columns").text


def _query(name: str) -> Query:
    return named("questions", name).filled(columns=_COLUMNS)


LIST = _query("list_questions")
FIND_MANY = _query("find_questions")
FIND = _query("find_question")
LOCK = _query("lock_question")
INSERT = _query("insert_question")
UPDATE = _query("update_question")
SET_ACCESS = _query("set_access")
SET_DELETED = _query("set_deleted")
COUNT = named("questions", "count_questions")
COUNT_OF_OWNER = named("questions", "count_of_owner")
FIND_MEMBERS = named("access", "find_members")


@dataclass(frozen=True, slots=True)
class Draft:
    """What people write of a question; `query` is JSON."""

    name: str
    description: str
    query: str
    tags: tuple[str, ...]

    @property
    def stored_query(self) -> Any:
        """The query's JSON value, whatever it says."""
        return msgspec.json.decode(self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One saved question. `revision` counts edits, `access_revision` changes of its access list."""

    id: UUID
    draft: Draft
    access: AccessList
    revision: int
    access_revision: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which questions of a list: `search` in name or description, `tag` exactly, deleted ones or the others."""

    search: str | None = None
    tag: str | None = None
    is_deleted: bool = False


class EditConflict(Conflict):
    """Somebody else has changed it since."""

    default_code = "revision_conflict"

    def __init__(self, theirs: Question, changed: Sequence[str]) -> None:
        super().__init__(
            f"The question is at revision {theirs.revision} by now, changed by {theirs.updated_by}; look at both "
            "versions, and send yours again with that revision.",
            field="revision",
        )
        self.theirs = theirs
        self.changed = tuple(changed)


@dataclass(frozen=True, slots=True)
class Questions:
    """A tenant's questions, as one caller may see and change them."""

    database: Database
    principal: Principal
    request_id: str

    async def page(self, wanted: Wanted, most: int, after: tuple[datetime, UUID] | None) -> list[Question]:
        """Newest first, behind a place or from the newest on."""
        async with self._reading() as session:
            rows = await session.fetch(
                LIST, most, *(after or (None, None)), _lowered(wanted.search), wanted.tag, wanted.is_deleted
            )
        return [question_of(row) for row in rows]

    async def count(self, wanted: Wanted) -> int:
        async with self._reading() as session:
            row = await session.fetchrow(COUNT, _lowered(wanted.search), wanted.tag, wanted.is_deleted)
        return int(row["count"]) if row else 0

    async def create(self, draft: Draft, grants: Sequence[Grant]) -> Question:
        """A new one, owned by its maker.

        Raises:
            BadInput: a text or the list cannot be used, or the owner has too many.
            PermissionDenied: the caller's role has just changed.
        """
        check_draft(draft)
        access = AccessList.of(self.principal.actor, grants)
        async with self._writing() as session:
            await require_standing(session, self.principal)
            await _check_people(session, grants)
            row = await session.fetchrow(COUNT_OF_OWNER, access.owner)
            if row and row["count"] >= MAX_OF_OWNER:
                raise BadInput(f"One owner has at most {MAX_OF_OWNER} questions; delete some.", code="too_many")
            values = (draft.name, draft.description, draft.query, list(draft.tags), access.owner, *_lists(access))
            made = question_of(await session.fetchrow(INSERT, uuid4(), *values))
            await self._audit(session, "question.create", made.id, _shown(draft) | _told(access))
        return made

    async def update(self, id: UUID, revision: int, changes: Mapping[str, Any]) -> Question:
        """A new revision with these fields of its draft changed. The same change made twice is made once.

        Raises:
            NotFound, PermissionDenied, BadInput; EditConflict with the stored version, when `revision` is another.
        """
        async with self._writing() as session:
            found = await self._held(session, id, Level.EDIT)
            old = found.draft
            draft = Draft(**{**_fields(old), **changes})
            changed = [name for name, value in _fields(draft).items() if value != _fields(old)[name]]
            if "query" in changed and draft.stored_query == old.stored_query:
                changed.remove("query")
            if not changed:
                return found
            if revision != found.revision:
                raise EditConflict(found, changed)
            check_draft(draft)
            values = (draft.name, draft.description, draft.query, list(draft.tags), self.principal.actor)
            made = question_of(await session.fetchrow(UPDATE, id, *values))
            before, after = _shown(old), _shown(draft)
            await self._audit(session, "question.update", id, {name: [before[name], after[name]] for name in changed})
        return made

    async def set_access(self, id: UUID, access_revision: int, grants: Sequence[Grant]) -> Question:
        """Another access list, whole.

        Raises:
            NotFound, PermissionDenied, BadInput; Conflict when `access_revision` is another.
        """
        async with self._writing() as session:
            # Before the question is locked, as whoever removes a member goes the same way.
            await _check_people(session, grants)
            found = await self._held(session, id, Level.MANAGE)
            access = AccessList.of(found.access.owner, grants)
            if access == found.access:
                return found
            if access_revision != found.access_revision:
                raise Conflict(
                    f"The access list is at revision {found.access_revision} by now; look at it, and send yours again "
                    "with that accessRevision.",
                    code="revision_conflict",
                    field="accessRevision",
                )
            if level_of(grantees_of(self.principal), access) is not Level.MANAGE:
                raise BadInput(
                    "With this list you could not manage the question any more; name yourself, or let its owner do it.",
                    code="locks_yourself_out",
                    field="access",
                )
            made = question_of(await session.fetchrow(SET_ACCESS, id, *_lists(access)))
            before, after = _told(found.access)["access"], _told(access)["access"]
            await self._audit(session, "question.access", id, {"access": [before, after]})
        return made

    async def delete(self, id: UUID) -> Question:
        """Deletes one; its share links end with it. Raises NotFound, PermissionDenied."""
        return await self._set_deleted(id, is_deleted=True)

    async def restore(self, id: UUID) -> Question:
        """Takes back a deletion of the last 30 days; its links live again. Raises NotFound, PermissionDenied."""
        return await self._set_deleted(id, is_deleted=False)

    async def _set_deleted(self, id: UUID, *, is_deleted: bool) -> Question:
        async with self._writing() as session:
            found = await self._held(session, id, Level.MANAGE, is_deleted=not is_deleted)
            made = question_of(await session.fetchrow(SET_DELETED, id, is_deleted))
            action = "question.delete" if is_deleted else "question.restore"
            await self._audit(session, action, id, {"name": found.draft.name})
        return made

    async def _held(self, session: Session, id: UUID, wanted: Level, *, is_deleted: bool = False) -> Question:
        """One question, locked, if the caller may so much with it; judged by its list as it is under the lock."""
        await require_standing(session, self.principal)
        locked = await session.fetchrow(LOCK, id, is_deleted)
        row = locked or await session.fetchrow(FIND, id, is_deleted)
        if row is None:
            raise NotFound("There is no SavedQuestion with that id.", field="id")
        found = question_of(row)
        require(level_of(grantees_of(self.principal), found.access), wanted, KIND)
        if locked is None:
            raise PermissionDenied("What you may do with this question has just changed; ask again.")
        return found

    async def _audit(self, session: Session, action: str, id: UUID, diff: Mapping[str, Any]) -> None:
        author = Author(self.principal.tenant.id, self.principal.actor, self.request_id)
        await audit(session, author, action, f"{KIND}:{id}", diff)

    def _reading(self) -> Any:
        return self.database.as_tenant(self.principal.tenant.id, grantees=grantees_of(self.principal))

    def _writing(self) -> Any:
        return self.database.as_tenant(self.principal.tenant.id, is_write=True, grantees=grantees_of(self.principal))


def question_of(row: Any) -> Question:
    """A question from a row of its columns."""
    return Question(
        id=UUID(str(row["id"])),
        draft=Draft(row["name"], row["description"], row["query"], tuple(row["tags"])),
        access=access_of(row),
        revision=row["revision"],
        access_revision=row["access_revision"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by"],
        deleted_at=row["deleted_at"],
    )


def access_of(row: Any) -> AccessList:
    """An object's access list from its row."""
    return AccessList(row["owner"], tuple(row["viewers"]), tuple(row["editors"]), tuple(row["managers"]))


def check_draft(draft: Draft) -> None:
    """Refuses texts that are no names, or too long.

    Raises:
        BadInput: names the field and the limit.
    """
    if not draft.name.strip():
        raise BadInput("A question needs a name.", field="name")
    checked_name(draft.name)
    check_text(draft.description, MAX_DESCRIPTION_LENGTH, "description")
    if len(draft.tags) > MAX_TAGS or len(set(draft.tags)) != len(draft.tags):
        raise BadInput(f"A question has at most {MAX_TAGS} tags, each once.", field="tags")
    if not all(1 <= len(tag) <= MAX_TAG_LENGTH and tag.isprintable() for tag in draft.tags):
        raise BadInput(f"A tag has 1 to {MAX_TAG_LENGTH} characters, all of them printable.", field="tags")


def check_text(text: str, most: int, field: str) -> None:
    """Refuses what is too long, or what the database cannot hold: NUL, halves of surrogate pairs.

    Raises:
        BadInput: names the field and the limit.
    """
    if len(text) > most or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        raise BadInput(f"{field} has at most {most} characters, without NUL.", field=field)


async def _check_people(session: Session, grants: Sequence[Grant]) -> None:
    """Refuses people who are no members; a member who is named stays one until the transaction ends."""
    people = [grant.grantee.removeprefix("person:") for grant in grants if grant.grantee.startswith("person:")]
    if people:
        found = {str(row["person_id"]) for row in await session.fetch(FIND_MEMBERS, [UUID(p) for p in people])}
        if set(people) - found:
            raise BadInput("access names a person who is no member of this tenant.", code="no_member", field="access")


def _lowered(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _fields(draft: Draft) -> dict[str, Any]:
    return asdict(draft)


def _shown(draft: Draft) -> dict[str, Any]:
    """A draft as the audit trail has it."""
    return {**asdict(draft), "query": draft.stored_query}


def _told(access: AccessList) -> dict[str, Any]:
    return {"access": {grant.grantee: grant.level.value for grant in access.grants}}


def _lists(access: AccessList) -> tuple[list[str], list[str], list[str]]:
    return list(access.viewers), list(access.editors), list(access.managers)
