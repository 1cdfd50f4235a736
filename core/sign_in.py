"""Signing in with a password, and changing it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from core.attempts import Attempts
from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound, PermissionDenied, Unauthenticated
from core.own_sessions import entries_of
from core.passwords import Passwords, checked_password
from core.people import (
    Membership,
    Person,
    checked_email,
    checked_person_name,
    find_person,
    list_memberships,
    person_of,
)
from core.queries import named
from core.sessions import (
    Entry,
    FreshSession,
    OpenedSession,
    Origin,
    insert_session,
    opened,
    refresh_session,
    revoke_sessions,
    tell,
)
from core.settings import Settings
from core.tenancy import PersonId, SessionId, TenantId

log = logging.getLogger(__name__)

FIND_ACCOUNT = named("people", "find_account")
HOLD_PASSWORD = named("people", "hold_password")
KEEP_BETTER_HASH = named("people", "keep_better_hash")
CHANGE_PASSWORD = named("people", "change_password")
RENAME = named("people", "rename_person")

PASSWORD = "password"
PASSWORD_CHANGED = "password_changed"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session's tokens, where they are good, and where else the person could be."""

    session: OpenedSession
    membership: Membership
    memberships: list[Membership]


class SignIn:
    """One a process."""

    def __init__(self, database: Database, settings: Settings, passwords: Passwords, attempts: Attempts) -> None:
        self._database = database
        self._settings = settings
        self._passwords = passwords
        self._attempts = attempts

    async def by_password(self, email: str, password: str, slug: str | None, origin: Origin) -> SignedIn:
        """A new session of the person with that e-mail and password: in the tenant of that slug, else where the person
        was last, else in its oldest. The attempt on the address is the caller's to count.

        Raises:
            BadInput: the e-mail is none.
            Unauthenticated: the person or the password is not right; which of them is told nowhere.
            PermissionDenied: the person is no member of that tenant, or of any.
            TooMany, Unavailable: attempts; sign-ins at once.
        """
        email = checked_email(email)
        person = await self._verified(email, password, origin)
        memberships = await list_memberships(self._database, person.id)
        membership = chosen(memberships, slug)
        fresh = await self._insert(person, membership.tenant.id, origin)
        return SignedIn(await opened(self._database, self._settings, fresh), membership, memberships)

    async def refreshed(self, token: str, origin: Origin) -> SignedIn:
        """New tokens for a refresh token; errors as `refresh_session`."""
        session = await refresh_session(self._database, self._settings, token, origin)
        memberships = list(session.memberships)
        for membership in memberships:
            if membership.tenant.id == session.tenant_id:
                return SignedIn(session, membership, [membership] if session.is_locked else memberships)
        raise PermissionDenied("You are not a member of that tenant any more.", code="not_a_member")

    async def change_password(
        self,
        person_id: PersonId,
        tenant_id: TenantId,
        *,
        current: str,
        new: str,
        keep: SessionId | None,
        request_id: str,
    ) -> int:
        """Another password for who knows the one before it; ends the person's sessions but `keep`, and says how many.

        Raises:
            BadInput: the current password is wrong, or the new one is not accepted.
            TooMany, Unavailable: attempts; passwords at once.
        """
        person = await find_person(self._database, person_id)
        if person is None or person.password_hash is None:
            raise BadInput("You sign in without a password; ask for a reset to have one.", field="currentPassword")
        try:
            text = checked_password(new, email=person.email, name=person.name)
        except BadInput as refusal:
            refusal.field = "newPassword"
            raise
        await self._attempts.of_person(str(person_id))
        if not (await self._passwords.verified(current, person.password_hash)).is_good:
            raise BadInput("The current password is wrong.", code="wrong_password", field="currentPassword")
        if current == new:
            raise BadInput("The new password is the current one; choose another.", field="newPassword")
        password_hash = await self._passwords.hashed(text)
        async with self._database.as_doorkeeper(is_write=True) as session:
            if await session.fetchrow(CHANGE_PASSWORD, person_id, person.password_changed_at, password_hash) is None:
                raise Conflict("The password was changed meanwhile; sign in with the new one.")
            ended = await revoke_sessions(session, person_id=person_id, keep=keep, reason=PASSWORD_CHANGED)
            change = Entry(tenant_id, "person.change_password", str(person_id))
            await tell(session, person_id, request_id, [change, *entries_of(ended, PASSWORD_CHANGED)])
        return len(ended)

    async def _verified(self, email: str, password: str, origin: Origin) -> Person:
        """The person, once its password was right. Unknown people are looked for, counted and verified alike."""
        async with self._database.as_doorkeeper() as session:
            row = await session.fetchrow(FIND_ACCOUNT, email)
        person = person_of(row) if row else None
        await self._attempts.on_account(email, origin.address, row["addresses"] if row else ())
        verified = await self._passwords.verified(password, person.password_hash if person else None)
        if person is None or not verified.is_good or person.disabled_at is not None:
            fields = {"action": "sign_in", "address": origin.address, "request_id": origin.request_id}
            log.info("sign-in refused", extra={**fields, "person": str(person.id) if person else None})
            raise wrong()
        if verified.better_hash is not None:
            async with self._database.as_doorkeeper(is_write=True) as session:
                await session.execute(KEEP_BETTER_HASH, person.id, person.password_hash, verified.better_hash)
        return person

    async def _insert(self, person: Person, tenant_id: TenantId, origin: Origin) -> FreshSession:
        async with self._database.as_doorkeeper(is_write=True) as session:
            await self._hold(session, person)
            return await insert_session(session, person.id, tenant_id, method=PASSWORD, origin=origin, is_locked=False)

    @staticmethod
    async def _hold(session: Session, person: Person) -> None:
        """The password that was verified is still the person's, and stays it until the end of the transaction: a change
        ends every session of the one before it."""
        if await session.fetchrow(HOLD_PASSWORD, person.id, person.password_changed_at) is None:
            raise wrong()


async def change_profile(database: Database, author: Author, person_id: PersonId, name: str) -> Person:
    """Another name for a person, with an entry in the trail of the tenant that it is in.

    Raises:
        BadInput: the name is none.
    """
    fresh = checked_person_name(name)
    async with database.as_doorkeeper(is_write=True) as session:
        row = await session.fetchrow(RENAME, person_id, fresh)
        if row is None:
            raise NotFound("There is no such person any more.")
        await audit(session, author, "person.update", str(person_id), {"name": [row["name_before"], fresh]})
    return person_of(row)


def chosen(memberships: list[Membership], slug: str | None) -> Membership:
    """The membership to begin in.

    Raises:
        PermissionDenied: there is none, or none of that slug.
    """
    if not memberships:
        raise PermissionDenied("You are a member of no tenant; ask for an invitation.", code="no_tenant")
    for membership in memberships:
        if slug in (None, "", membership.tenant.slug):
            return membership
    raise PermissionDenied("You are a member of no tenant with that slug.", code="not_a_member")


def wrong() -> Unauthenticated:
    return Unauthenticated("The e-mail or the password is wrong.", code="invalid_credentials")
