"""A forgotten password: a link by mail, good once and for an hour. Whether an address is somebody's is told nowhere:
asking leaves the same rows by the same statements for one that nobody has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from core.acceptance import invalid_link
from core.database import Database
from core.link_tokens import LinkKind, hash_of, new_token
from core.mail import MailKind, Message, put_message
from core.own_sessions import entries_of
from core.passwords import Passwords, checked_password
from core.people import checked_email, set_password
from core.queries import named
from core.sessions import Entry, revoke_sessions, tell
from core.settings import Settings
from core.tenancy import PersonId, TenantId

WAIT_TURN = named("password_resets", "wait_turn")
FORGET = named("password_resets", "forget_resets")
FIND_ASKER = named("password_resets", "find_asker")
INSERT = named("password_resets", "insert_reset")
FIND = named("password_resets", "find_reset")
USE = named("password_resets", "use_reset")
END = named("password_resets", "end_resets")
LIST_TENANTS = named("password_resets", "list_tenants_of")

LIFE = timedelta(hours=1)
# To one account: a message in five minutes, so many a day, whoever asks.
PAUSE = timedelta(minutes=5)
MOST_A_DAY = 6
PATH = "/auth/reset"
PASSWORD_RESET = "password_reset"


@dataclass(frozen=True, slots=True)
class OpenReset:
    """A reset that can be used, and of whom."""

    token_hash: bytes
    person_id: PersonId
    email: str
    name: str


async def ask_reset(database: Database, settings: Settings, email: str) -> None:
    """Puts a message with a link into the outbox, for an address that is somebody's; for others one that is not sent.

    Raises:
        BadInput: no address.
    """
    email = checked_email(email)
    token = new_token(LinkKind.PASSWORD_RESET)
    async with database.as_doorkeeper(is_write=True) as session:
        await session.execute(WAIT_TURN, email)
        await session.execute(FORGET)
        row = await session.fetchrow(FIND_ASKER, email, PAUSE)
        never = _why_never(row)
        person_id = row["id"] if row is not None and not never else None
        await session.execute(INSERT, uuid4(), person_id, hash_of(token, LinkKind.PASSWORD_RESET), LIFE)
        has_password = row is None or row["id"] is None or row["has_password"]
        message = _reset_message(email, f"{settings.public_base}{PATH}?token={token}", has_password=has_password)
        await put_message(session, message, tenant_id=None, master_key=settings.master_key_bytes(), never=never)


async def find_reset(database: Database, token: str) -> OpenReset:
    """What the link with this token is good for.

    Raises:
        BadInput: `invalid_link`: unknown, used and expired are told apart nowhere.
    """
    token_hash = hash_of(token, LinkKind.PASSWORD_RESET)
    if token_hash is None:
        raise invalid_link()
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND, token_hash)
    if row is None:
        raise invalid_link()
    return OpenReset(token_hash, PersonId(UUID(int=row["id"].int)), row["email"], row["name"])


async def reset_password(
    database: Database, settings: Settings, passwords: Passwords, token: str, password: str, request_id: str
) -> None:
    """Gives a person another password, ends all its sessions and its other links, and tells it by mail; each tenant of
    it finds an entry in its trail. A password that is refused leaves the link good.

    Raises:
        BadInput: `invalid_link`, or a password that the person cannot have.
    """
    reset = await find_reset(database, token)
    password_hash = await passwords.hashed(checked_password(password, email=reset.email, name=reset.name))
    async with database.as_doorkeeper(is_write=True) as session:
        if await session.fetchrow(USE, reset.token_hash) is None:
            raise invalid_link()
        await set_password(session, reset.person_id, password_hash)
        await session.execute(END, reset.person_id)
        ended = await revoke_sessions(session, person_id=reset.person_id, reason=PASSWORD_RESET)
        message = Message(
            kind=MailKind.PASSWORD_CHANGED,
            recipient=reset.email,
            subject="Your CloudMetrics password was changed",
            text="The password of your CloudMetrics account was changed by a link that was sent to this address, and\n"
            "all its sessions were ended. If that was not you, ask for another reset at once, and see who else\n"
            "reads this mailbox.\n",
        )
        await put_message(session, message, tenant_id=None, master_key=settings.master_key_bytes())
        tenants = [
            TenantId(UUID(int=row["tenant_id"].int)) for row in await session.fetch(LIST_TENANTS, reset.person_id)
        ]
        subject = f"person:{reset.person_id}"
        told = [Entry(tenant_id, "person.reset_password", subject) for tenant_id in tenants]
        await tell(session, reset.person_id, request_id, [*told, *entries_of(ended, PASSWORD_RESET)])


def _why_never(row: Any) -> str:
    """Why nothing is sent to an address; empty where something is."""
    if row is None or row["id"] is None:
        return "nobody has this address"
    if row["is_disabled"]:
        return "the account is disabled"
    if row["is_recent"] or row["today"] >= MOST_A_DAY:
        return "another was asked for not long ago"
    return ""


def _reset_message(email: str, link: str, *, has_password: bool) -> Message:
    if has_password:
        text = (
            "Somebody, likely you, asked for another password of your CloudMetrics account.\n\n"
            f"To choose one, open this link within an hour:\n\n{link}\n\n"
            "It works once. If you did not ask, do nothing: your password stays as it is.\n"
        )
    else:
        text = (
            "Somebody, likely you, asked for another password of your CloudMetrics account. It has none: you sign in\n"
            "through your organisation's identity provider.\n"
        )
    return Message(
        kind=MailKind.PASSWORD_RESET,
        recipient=email,
        subject="Another password for CloudMetrics",
        text=text,
        keep_trying=LIFE,
    )
