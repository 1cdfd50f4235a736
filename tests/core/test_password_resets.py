"""Forgotten passwords: a link that is good once, and nobody learns who has an account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from core.database import Database, as_owner
from core.errors import BadInput
from core.outbox import MessageState, OutboxMessage, list_messages
from core.password_resets import MOST_A_DAY, MOST_FROM_A_NETWORK, PAUSE, ask_reset, find_reset, reset_password
from core.passwords import Passwords
from core.people import find_person
from core.permissions import Role
from core.sessions import open_session
from core.settings import Settings
from core.tenancy import PersonId, Tenant
from tests.core.people_builder import PASSWORD, join, make_person, make_tenant
from tests.core.test_members import trail

HOME = "192.0.2.7"
NEW_PASSWORD = "nine herons cross 2 fields"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    passwords = Passwords()
    yield passwords
    await passwords.close()


async def messages_to(database: Database, settings: Settings, email: str) -> list[OutboxMessage]:
    every = await list_messages(database, settings.master_key_bytes(), tenant_id=None, has_all=True, most=1000)
    return [message for message in every if message.recipient == email]


async def token_of(database: Database, settings: Settings, email: str) -> str:
    (message, *_) = await messages_to(database, settings, email)
    return message.text.partition("token=")[2].split()[0]


async def backdate(settings: Settings, by: timedelta) -> None:
    async with as_owner(settings.doorkeeper_url) as connection:
        await connection.execute(
            "UPDATE password_resets SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval",
            by,
        )


async def set_new(
    database: Database, settings: Settings, passwords: Passwords, token: str, password: str = NEW_PASSWORD
) -> None:
    await reset_password(database, settings, passwords, token, password, "request-1")


async def session_of(database: Database, settings: Settings, person_id: PersonId, tenant: Tenant) -> None:
    await open_session(
        database, settings, person_id=person_id, tenant_id=tenant.id, method="password", address="", agent="",
        locked=False,
    )  # fmt: skip


async def test_a_reset_sets_the_password_ends_all_sessions_and_is_told_to_person_and_tenants(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    other = await make_tenant(database, f"other-{tenant.slug}")
    person_id = await make_person(database, email="ada1@example.com", has_password=True)
    for where in (tenant, other):
        await join(database, where, person_id, Role.VIEWER)
        await session_of(database, settings, person_id, where)
    await ask_reset(database, settings, "Ada1@example.com", HOME)
    await set_new(database, settings, passwords, await token_of(database, settings, "ada1@example.com"))

    person = await find_person(database, person_id)
    assert person is not None and (await passwords.verified(NEW_PASSWORD, person.password_hash)).is_good
    assert not (await passwords.verified(PASSWORD, person.password_hash)).is_good
    async with as_owner(settings.doorkeeper_url) as connection:
        live = "SELECT count(*) FROM sessions WHERE person_id = $1 AND revoked_at IS NULL"
        assert await connection.fetchval(live, person_id) == 0
    told, asked = await messages_to(database, settings, "ada1@example.com")
    assert (told.subject, asked.state) == ("Your CloudMetrics password was changed", MessageState.WAITING)
    for where in (tenant, other):
        actor = f"person:{person_id}"
        assert (actor, "person.reset_password", actor) in await trail(settings, where)


async def test_a_link_is_good_once_and_ends_the_others(
    settings: Settings, database: Database, passwords: Passwords
) -> None:
    await make_person(database, email="ada2@example.com", has_password=True)
    await ask_reset(database, settings, "ada2@example.com", HOME)
    first = await token_of(database, settings, "ada2@example.com")
    await backdate(settings, timedelta(minutes=6))
    await ask_reset(database, settings, "ada2@example.com", HOME)
    second = await token_of(database, settings, "ada2@example.com")
    done = await asyncio.gather(
        *(set_new(database, settings, passwords, second) for _ in range(3)), return_exceptions=True
    )
    assert sorted(outcome is None for outcome in done) == [False, False, True]
    for token in (first, second):
        with pytest.raises(BadInput) as refusal:
            await set_new(database, settings, passwords, token)
        assert refusal.value.code == "invalid_link"


async def test_after_an_hour_it_is_good_no_more(settings: Settings, database: Database, passwords: Passwords) -> None:
    await make_person(database, email="ada3@example.com", has_password=True)
    await ask_reset(database, settings, "ada3@example.com", HOME)
    token = await token_of(database, settings, "ada3@example.com")
    await backdate(settings, timedelta(minutes=61))
    with pytest.raises(BadInput):
        await find_reset(database, token)


@pytest.mark.parametrize("password", ["short", "password1234567", "ada4 of example.com"])
async def test_a_password_that_is_refused_leaves_the_link_good(
    settings: Settings, database: Database, passwords: Passwords, password: str
) -> None:
    email = f"ada4{len(password)}@example.com"
    await make_person(database, email=email, name="Ada4 of", has_password=True)
    await ask_reset(database, settings, email, HOME)
    token = await token_of(database, settings, email)
    with pytest.raises(BadInput) as refusal:
        await set_new(database, settings, passwords, token, password)
    assert refusal.value.field == "password"
    await find_reset(database, token)


async def test_an_address_that_nobody_has_leaves_the_same_rows_and_no_mail(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_person(database, email="ada5@example.com", has_password=True)
    statements: list[list[str]] = []
    for email in ("ada5@example.com", "nobody5@example.com"):
        ran: list[str] = []
        await ask_reset(Recording(database, ran), settings, email, HOME)  # type: ignore[arg-type]
        statements.append(ran)
    assert statements[0] == statements[1] and len(statements[0]) == 5
    (known,), (nobody,) = [await messages_to(database, settings, f"{n}5@example.com") for n in ("ada", "nobody")]
    assert (known.state, nobody.state) == (MessageState.WAITING, MessageState.GIVEN_UP)
    assert nobody.last_error == "nobody has this address"
    assert len(known.text) == len(nobody.text)
    with pytest.raises(BadInput):
        await find_reset(database, nobody.text.partition("token=")[2].split()[0])


class Recording:
    """The database, and the names of what it is asked."""

    def __init__(self, database: Database, ran: list[str]) -> None:
        self._database, self._ran = database, ran

    def as_doorkeeper(self, *, is_write: bool = False) -> object:
        return _Recorded(self._database.as_doorkeeper(is_write=is_write), self._ran)


class _Recorded:
    def __init__(self, inner: object, ran: list[str]) -> None:
        self._inner, self._ran = inner, ran

    async def __aenter__(self) -> object:
        self._session = await self._inner.__aenter__()  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)  # type: ignore[attr-defined]

    async def execute(self, query: object, *args: object) -> object:
        self._ran.append(query.name)  # type: ignore[attr-defined]
        return await self._session.execute(query, *args)

    async def fetchrow(self, query: object, *args: object) -> object:
        self._ran.append(query.name)  # type: ignore[attr-defined]
        return await self._session.fetchrow(query, *args)


async def test_an_account_gets_one_message_in_five_minutes_whoever_asks_and_however_many_at_once(
    settings: Settings, database: Database
) -> None:
    # Connections are opened before, so that all are really asked at once.
    await asyncio.gather(*(ask_reset(database, settings, f"warm{n}@example.com", HOME) for n in range(6)))
    for n in range(5):
        email = f"ada6{n}@example.com"
        await make_person(database, email=email, has_password=True)
        await asyncio.gather(*(ask_reset(database, settings, email, HOME) for _ in range(6)))
        states = [message.state for message in await messages_to(database, settings, email)]
        assert sorted(states) == [MessageState.GIVEN_UP] * 5 + [MessageState.WAITING]


async def test_strangers_do_not_use_up_what_a_person_may_ask_for(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    """From where the person has a session there is always something left, and elsewhere until many networks ask."""
    person_id = await make_person(database, email="ada9@example.com", has_password=True)
    await join(database, tenant, person_id, Role.VIEWER)
    await open_session(
        database, settings, person_id=person_id, tenant_id=tenant.id, method="password", address=HOME, agent="",
        locked=False,
    )  # fmt: skip

    async def is_sent(address: str) -> bool:
        await backdate(settings, PAUSE)
        await ask_reset(database, settings, "ada9@example.com", address)
        (newest, *_) = await messages_to(database, settings, "ada9@example.com")
        return newest.state is MessageState.WAITING

    sent = [await is_sent("198.51.100.1") for _ in range(MOST_FROM_A_NETWORK + 1)]
    assert sent == [True] * MOST_FROM_A_NETWORK + [False]
    assert await is_sent("198.51.100.2"), "somebody else is not that stranger"
    others = [await is_sent(f"198.51.100.{n // MOST_FROM_A_NETWORK + 3}") for n in range(MOST_A_DAY)]
    assert others.count(True) == MOST_A_DAY - MOST_FROM_A_NETWORK - 1 and not others[-1]
    assert [await is_sent(HOME) for _ in range(MOST_FROM_A_NETWORK + 1)] == [True] * MOST_FROM_A_NETWORK + [False]


async def test_a_person_without_a_password_is_told_so_and_a_disabled_one_nothing(
    settings: Settings, database: Database
) -> None:
    await make_person(database, email="sso7@example.com")
    disabled = await make_person(database, email="off7@example.com", has_password=True)
    async with as_owner(settings.doorkeeper_url) as connection:
        await connection.execute("UPDATE people SET disabled_at = now() WHERE id = $1", disabled)
    for email in ("sso7@example.com", "off7@example.com"):
        await ask_reset(database, settings, email, HOME)
    (sso,), (off,) = [await messages_to(database, settings, f"{n}7@example.com") for n in ("sso", "off")]
    assert "identity provider" in sso.text and "token=" not in sso.text and sso.state is MessageState.WAITING
    assert off.state is MessageState.GIVEN_UP


async def test_what_ended_a_day_ago_is_forgotten(settings: Settings, database: Database) -> None:
    await ask_reset(database, settings, "old8@example.com", HOME)
    await backdate(settings, timedelta(days=2))
    await ask_reset(database, settings, "new8@example.com", HOME)
    async with as_owner(settings.doorkeeper_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM password_resets") == 1
