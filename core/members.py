"""Who is a member of a tenant, and the rules of changing it: only owners make or unmake owners, no tenant is ever
without one, nobody raises himself. All changes of one tenant's members wait for each other, and each asks anew what
its author may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import Conflict, NotFound, PermissionDenied
from core.permissions import ROLE_PERMISSIONS, Permission, Role, Scope, of_scopes, who_may
from core.queries import named
from core.sessions import revoke_sessions
from core.tenancy import TIER_LIMITS, PersonId, Principal, TenantId, Tier, TierLimits

LOCK = named("members", "lock_members")
STANDING_OF = named("members", "standing_of")
LAST_SEEN = named("members", "last_seen").text
FIND = named("members", "find_member").filled(last_seen=LAST_SEEN)
FIND_BY_NAME = named("members", "find_members_by_name").filled(last_seen=LAST_SEEN)
LIST = named("members", "list_members").filled(last_seen=LAST_SEEN)
LOAD = named("members", "load_members").filled(last_seen=LAST_SEEN)
COUNT = named("members", "count_members")
HOLD_KEY = named("access", "hold_key")
COUNT_OWNERS = named("members", "count_other_owners")
SET_ROLE = named("members", "set_role")
REMOVE = named("members", "remove_member")
HOLD_KEY = named("access", "hold_key")
END_INVITATIONS = named("invitations", "end_invitations_by")

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a tenant. `email` is empty where its identity provider gives none. `last_seen_at`: when a session of
    it was last used there; None: it has none."""

    person_id: PersonId
    name: str
    email: str
    role: Role
    since: datetime
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Authority:
    """Who changes members: the name that it leaves in the trail, and what it may; of a person, its role is asked anew
    within the transaction."""

    author: Author
    permissions: frozenset[Permission]
    person_id: PersonId | None = None

    @classmethod
    def of(cls, principal: Principal, request_id: str) -> Authority:
        author = Author(principal.tenant.id, principal.actor, request_id)
        return cls(author, principal.permissions, principal.person_id)

    @classmethod
    def operator(cls, tenant_id: TenantId) -> Authority:
        """From the command line: as an owner."""
        return cls(Author.operator(tenant_id, OPERATOR), ROLE_PERMISSIONS[Role.OWNER])


@dataclass(frozen=True, slots=True)
class Standing:
    """What an authority is at this moment, which lasts to the transaction's end; and its tenant. `name`: what people
    call it."""

    tenant_name: str
    limits: TierLimits
    permissions: frozenset[Permission]
    role: Role | None
    name: str

    def require(self, permission: Permission) -> None:
        """Raises PermissionDenied."""
        if permission not in self.permissions:
            raise PermissionDenied(f"This needs {permission.value}: {who_may(permission)}.")

    def require_for(self, *roles: Role) -> None:
        """That it may make or unmake members of these roles. Raises PermissionDenied."""
        self.require(Permission.MEMBERS_WRITE)
        if Role.OWNER in roles:
            self.require(Permission.OWNERS_WRITE)


async def stand(session: Session, authority: Authority) -> Standing:
    """Waits until no other change of the tenant's members is under way, and says what the authority may.

    Raises:
        PermissionDenied: a person that is a member no more, a key that is live no more, or a tenant that is to be
            deleted.
    """
    tenant = await lock_members(session)
    if tenant["ends_at"] is not None and authority.author.actor != OPERATOR:
        raise PermissionDenied("This tenant is to be deleted; its members change again once an owner restores it.")
    if authority.author.actor == OPERATOR:
        return Standing(tenant["name"], limits_of(tenant), authority.permissions, None, "The operator")
    if authority.person_id is None:
        # Doors know a key for some seconds after its end; what it makes then would be ended by nobody.
        key = await session.fetchrow(HOLD_KEY, authority.author.actor)
        if key is None:
            raise PermissionDenied("This key is not live any more.")
        held = of_scopes(frozenset(Scope(scope) for scope in key["scopes"]))
        return Standing(tenant["name"], limits_of(tenant), authority.permissions & held, None, "An administrator")
    row = await session.fetchrow(STANDING_OF, authority.person_id)
    if row is None:
        raise PermissionDenied("You are not a member of this tenant any more.")
    role = Role(row["role"])
    return Standing(tenant["name"], limits_of(tenant), ROLE_PERMISSIONS[role], role, row["name"])


async def lock_members(session: Session) -> Any:
    """The tenant's row, kept from every other change of its members until the transaction's end.

    Raises:
        NotFound: the tenant is gone.
    """
    row = await session.fetchrow(LOCK)
    if row is None:
        raise NotFound("There is no such tenant any more.")
    return row


def limits_of(tenant: Any) -> TierLimits:
    return TIER_LIMITS[Tier(tenant["tier"])]


async def change_member_role(database: Database, authority: Authority, person_id: PersonId, role: Role) -> Member:
    """Gives a member another role. Whoever comes down loses the invitations it made that are still open.

    Raises:
        NotFound: no member.
        PermissionDenied: the authority may not, or would raise itself.
        Conflict: `last_owner`.
    """
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require(Permission.MEMBERS_WRITE)
        member = await _find(session, person_id)
        standing.require_for(member.role, role)
        if person_id == authority.person_id and role.rank > member.role.rank:
            raise PermissionDenied("Nobody raises his own role; ask an owner.", code="permission_denied")
        if role is not member.role:
            await _keep_an_owner(session, member, role)
            await session.execute(SET_ROLE, person_id, role.value)
            if role.rank < member.role.rank:
                await session.execute(END_INVITATIONS, f"person:{person_id}")
            diff = {"role": [member.role.value, role.value]}
            await audit(session, authority.author, "member.change_role", f"person:{person_id}", diff)
        return await _find(session, person_id)


async def remove_member(database: Database, authority: Authority, person_id: PersonId) -> None:
    """Ends a membership, with the sessions in that tenant and the open invitations that it made, in one moment.

    Raises:
        NotFound, PermissionDenied, Conflict: as `change_member_role`.
    """
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require(Permission.MEMBERS_WRITE)
        member = await _find(session, person_id)
        standing.require_for(member.role)
        await _end(session, authority.author, member, "member.remove")


async def leave_tenant(database: Database, authority: Authority) -> None:
    """Ends one's own membership.

    Raises:
        PermissionDenied: whoever asks is no member.
        Conflict: `last_owner`.
    """
    if authority.person_id is None:
        raise PermissionDenied("Only a member can leave; a key is revoked instead.")
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        await stand(session, authority)
        await _end(session, authority.author, await _find(session, authority.person_id), "member.leave")


async def list_members(
    database: Database, tenant_id: TenantId, *, most: int, search: str, after: tuple[datetime, UUID] | None
) -> list[Member]:
    """A tenant's members, who is there longest first, from a place on; `search` is part of a name."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(LIST, most, search, *(after or (None, None)))
    return [member_of(row) for row in rows]


async def count_members(database: Database, tenant_id: TenantId, search: str) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT, search)
    return int(row["count"]) if row else 0


async def find_member(database: Database, tenant_id: TenantId, name: str) -> Member:
    """The member with an e-mail, or with a person's id.

    Raises:
        NotFound: there is none.
        Conflict: several have that e-mail, as identity providers may say.
    """
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(FIND_BY_NAME, name)
    if not rows:
        raise NotFound("There is no member with that e-mail.", field="email")
    if len(rows) > 1:
        ids = ", ".join(str(row["person_id"]) for row in rows)
        raise Conflict(f"Several members have that e-mail; name one by its id: {ids}.", field="email")
    return member_of(rows[0])


async def load_members(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[Member | None]:
    """Members by their persons' ids, in that order; None for whoever is none."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(LOAD, list(ids))
    found: dict[UUID, Member] = {member.person_id: member for member in map(member_of, rows)}
    return [found.get(person_id) for person_id in ids]


def member_of(row: Any) -> Member:
    """A member from a row of the look-up queries."""
    return Member(
        PersonId(UUID(int=row["person_id"].int)),
        row["name"],
        row["email"],
        Role(row["role"]),
        row["since"],
        row["last_seen_at"],
    )


async def _find(session: Session, person_id: PersonId) -> Member:
    row = await session.fetchrow(FIND, person_id)
    if row is None:
        raise NotFound("There is no Member with that id.", field="id")
    return member_of(row)


async def _keep_an_owner(session: Session, member: Member, role: Role | None) -> None:
    if member.role is not Role.OWNER or role is Role.OWNER:
        return
    row = await session.fetchrow(COUNT_OWNERS, member.person_id)
    if row is None or not row["count"]:
        raise Conflict(
            "A tenant always has an owner, and this is its last one; make another member an owner first.",
            code="last_owner",
            field="id",
        )


async def _end(session: Session, author: Author, member: Member, action: str) -> None:
    await _keep_an_owner(session, member, None)
    await session.execute(REMOVE, member.person_id)
    await session.execute(END_INVITATIONS, f"person:{member.person_id}")
    ended = await revoke_sessions(
        session, person_id=member.person_id, tenant_id=author.tenant_id, reason="not_a_member"
    )
    diff = {
        "role": [member.role.value, None],
        "email": [member.email, None],
        "sessions": [str(one.id) for one in ended],
    }
    await audit(session, author, action, f"person:{member.person_id}", diff)
