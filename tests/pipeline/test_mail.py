"""Mail from the outbox to a real server: sent once, put off and tried again, given up and told."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from datetime import timedelta
from email.message import EmailMessage
from uuid import UUID

import pytest

from core.database import Database, as_owner
from core.mail import MailKind, Message, put_message
from core.outbox import LEASE, Claimed, MessageState, OutboxMessage, claim, list_messages, pause, settle
from core.settings import Settings
from core.smtp import PutOff, Sent
from core.tenancy import Tenant
from pipeline.mail import LOOK_SECONDS, REST_SECONDS, MailSender
from tests.pipeline.smtp_server import Mailbox, serving

SENDER = "CloudMetrics <cm@example.com>"


async def put(
    database: Database, settings: Settings, tenant: Tenant, to: str = "ada@example.com", **how: object
) -> UUID:
    message = Message(
        kind=MailKind.INVITATION,
        recipient=to,
        subject="Zoë lädt ein",
        text="https://x.test/?token=t\n",
        **how,  # type: ignore[arg-type]
    )
    async with database.as_tenant(tenant.id, is_write=True) as session:
        return await put_message(session, message, tenant_id=tenant.id, master_key=settings.master_key_bytes())


def sender_to(settings: Settings, database: Database, port: int) -> MailSender:
    return MailSender(database, dataclasses.replace(settings, mail_url=f"smtp://127.0.0.1:{port}", mail_from=SENDER))


async def make_due(settings: Settings) -> None:
    """As if the next attempt's time had come."""
    async with as_owner(settings.writer_url) as connection:
        await connection.execute("UPDATE outbox SET next_attempt_at = now() WHERE sent_at IS NULL")


async def outbox(database: Database, settings: Settings, tenant: Tenant) -> list[OutboxMessage]:
    return await list_messages(database, settings.master_key_bytes(), tenant_id=tenant.id, has_all=True, most=100)


async def test_a_message_arrives_as_it_was_written_and_its_link_is_forgotten(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    message_id = await put(database, settings, tenant)
    async with serving(Mailbox()) as mailbox:
        assert await sender_to(settings, database, mailbox.port).send_due() == LOOK_SECONDS
    (mail,) = mailbox.messages
    assert mail["Subject"] == "Zoë lädt ein" and mail["To"] == "ada@example.com" and mail["From"] == SENDER
    assert mail["Message-ID"] == f"<{message_id}@example.com>" and mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == "https://x.test/?token=t\n"
    (kept,) = await outbox(database, settings, tenant)
    assert (kept.state, kept.text, kept.subject) == (MessageState.SENT, "", "")


async def test_what_a_transaction_that_fails_put_in_is_never_sent(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    message = Message(kind=MailKind.INVITATION, recipient="ada@example.com", subject="s", text="t")
    with pytest.raises(RuntimeError):
        async with database.as_tenant(tenant.id, is_write=True) as session:
            await put_message(session, message, tenant_id=tenant.id, master_key=settings.master_key_bytes())
            raise RuntimeError
    assert await outbox(database, settings, tenant) == []


async def test_without_a_server_messages_wait_with_their_links(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await put(database, settings, tenant)
    await MailSender(database, settings).send_due()
    (kept,) = await outbox(database, settings, tenant)
    assert (kept.state, kept.attempts) == (MessageState.WAITING, 0) and "token=t" in kept.text
    await make_due(settings)
    await drain(settings, database)


async def drain(settings: Settings, database: Database) -> None:
    """Leaves nothing behind for the next test of the module."""
    async with serving(Mailbox()) as mailbox:
        await sender_to(settings, database, mailbox.port).send_due()


async def test_a_greylisting_server_gets_the_message_at_a_later_attempt(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await put(database, settings, tenant)
    async with serving(Mailbox(replies=["451 4.7.1 Greylisted, come\x07back later"])) as mailbox:
        sender = sender_to(settings, database, mailbox.port)
        assert await sender.send_due() == REST_SECONDS
        (kept,) = await outbox(database, settings, tenant)
        assert kept.state is MessageState.WAITING and "451 4.7.1 Greylisted, come back later" in kept.last_error
        assert kept.next_attempt_at - kept.created_at > timedelta(seconds=25)
        assert await sender.send_due() == LOOK_SECONDS and mailbox.attempts == 1
        await make_due(settings)
        await sender.send_due()
    assert (mailbox.attempts, len(mailbox.messages)) == (2, 1)


@pytest.mark.parametrize("how", [{"replies": ["550 5.1.1 No such user"]}, {"data_reply": "554 5.7.1 Rejected"}])
async def test_a_server_that_refuses_for_good_is_asked_once_and_it_is_told(
    settings: Settings, database: Database, tenant: Tenant, caplog: pytest.LogCaptureFixture, how: dict[str, object]
) -> None:
    message_id = await put(database, settings, tenant)
    async with serving(Mailbox(**how)) as mailbox:  # type: ignore[arg-type]
        with caplog.at_level(logging.ERROR):
            await sender_to(settings, database, mailbox.port).send_due()
        await make_due(settings)
        await sender_to(settings, database, mailbox.port).send_due()
    assert mailbox.attempts == 1
    (kept,) = await outbox(database, settings, tenant)
    assert kept.state is MessageState.GIVEN_UP and kept.last_error.split(" ", 2)[1] in ("550", "554")
    (record,) = [r for r in caplog.records if "given up" in r.getMessage()]
    assert record.__dict__["message_id"] == str(message_id)


async def test_a_server_that_is_away_is_tried_until_the_message_is_of_no_more_use(
    settings: Settings, database: Database, tenant: Tenant, unused_tcp_port: int
) -> None:
    await put(database, settings, tenant)
    sender = sender_to(settings, database, unused_tcp_port)
    assert await sender.send_due() == REST_SECONDS
    (kept,) = await outbox(database, settings, tenant)
    assert kept.state is MessageState.WAITING and kept.last_error.startswith("SMTPConnectError")
    async with as_owner(settings.writer_url) as connection:
        await connection.execute("UPDATE outbox SET give_up_at = now() WHERE sent_at IS NULL")
    await make_due(settings)
    await sender.send_due()
    (kept,) = await outbox(database, settings, tenant)
    assert kept.state is MessageState.GIVEN_UP and kept.attempts == 2


async def test_a_server_that_says_nothing_holds_a_message_for_bounded_time(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.smtp.COMMAND_SECONDS", 0.3)
    await put(database, settings, tenant)
    async with serving(Mailbox(seconds=30)) as mailbox:
        await asyncio.wait_for(sender_to(settings, database, mailbox.port).send_due(), 20)
    (kept,) = await outbox(database, settings, tenant)
    assert kept.state is MessageState.WAITING and "imed out" in kept.last_error
    await make_due(settings)
    await drain(settings, database)


async def test_what_waited_until_its_link_was_good_no_more_is_not_sent(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await put(database, settings, tenant)
    async with as_owner(settings.writer_url) as connection:
        older = "UPDATE outbox SET created_at = created_at - interval '7 days' WHERE sent_at IS NULL"
        await connection.execute(older)
    (kept,) = await outbox(database, settings, tenant)
    assert (kept.state, kept.attempts) == (MessageState.GIVEN_UP, 0)
    async with serving(Mailbox()) as mailbox:
        await sender_to(settings, database, mailbox.port).send_due()
    (kept,) = await outbox(database, settings, tenant)
    assert mailbox.attempts == 0 and kept.state is MessageState.GIVEN_UP and "its link has ended" in kept.last_error


async def test_several_senders_send_each_message_once(settings: Settings, database: Database, tenant: Tenant) -> None:
    for n in range(12):
        await put(database, settings, tenant, f"n{n}@example.com")
    async with serving(Mailbox(seconds=0.01)) as mailbox:
        senders = [sender_to(settings, database, mailbox.port) for _ in range(4)]
        await asyncio.gather(*(sender.send_due() for sender in senders))
    assert sorted(mailbox.recipients) == sorted(f"n{n}@example.com" for n in range(12))


async def test_a_message_whose_worker_died_is_taken_again_and_the_late_one_settles_nothing(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await put(database, settings, tenant)
    key = settings.master_key_bytes()
    dead = await claim(database, key)
    assert isinstance(dead, Claimed) and await claim(database, key) is None, "others wait for the lease's end"
    await make_due(settings)
    second = await claim(database, key)
    assert second is not None and (second.id, second.attempt) == (dead.id, 2)
    await settle(database, dead, PutOff("late"))
    (kept,) = await outbox(database, settings, tenant)
    assert kept.last_error == "" and kept.next_attempt_at > kept.created_at + LEASE / 2
    await settle(database, second, Sent())
    assert (await outbox(database, settings, tenant))[0].state is MessageState.SENT


async def test_another_master_key_stops_no_worker(settings: Settings, database: Database, tenant: Tenant) -> None:
    await put(database, settings, tenant, "lost@example.com")
    other = dataclasses.replace(settings, master_key="A" * 43 + "=")
    async with serving(Mailbox()) as mailbox:
        assert await sender_to(other, database, mailbox.port).send_due() == LOOK_SECONDS
    async with as_owner(settings.writer_url) as connection:
        given_up = await connection.fetchrow("SELECT * FROM outbox WHERE recipient = 'lost@example.com'")
    assert given_up["given_up_at"] is not None and "MASTER_KEY" in given_up["last_error"]


async def test_a_message_that_cannot_be_written_is_given_up_and_the_others_go_on(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(database, settings, tenant, "odd@example.com")
    await put(database, settings, tenant, "stored@example.com")
    await put(database, settings, tenant, "good@example.com")
    async with as_owner(settings.writer_url) as connection:
        # As one that an earlier version let in.
        stored = "UPDATE outbox SET recipient = '=?utf-8?q??=@corp.com' WHERE recipient = 'stored@example.com'"
        await connection.execute(stored)
    write = Message.to_mime

    def failing(message: Message, message_id: UUID, sender: str) -> EmailMessage:
        # What Python's parser of addresses raised of such a recipient.
        return [][0] if message.recipient == "odd@example.com" else write(message, message_id, sender)

    monkeypatch.setattr(Message, "to_mime", failing)
    async with serving(Mailbox()) as mailbox:
        assert await sender_to(settings, database, mailbox.port).send_due() == LOOK_SECONDS
    assert mailbox.recipients == ["good@example.com"]
    kept = {message.recipient: message for message in await outbox(database, settings, tenant)}
    assert kept["odd@example.com"].state is kept["=?utf-8?q??=@corp.com"].state is MessageState.GIVEN_UP
    assert "IndexError" in kept["odd@example.com"].last_error
    assert "recipient" in kept["=?utf-8?q??=@corp.com"].last_error


async def test_a_message_that_ends_its_worker_each_time_is_not_tried_for_ever(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await put(database, settings, tenant)
    key = settings.master_key_bytes()
    assert await claim(database, key) is not None
    await make_due(settings)
    assert await claim(database, key) is not None, "within its time it is taken again"
    async with as_owner(settings.writer_url) as connection:
        await connection.execute("UPDATE outbox SET give_up_at = now() WHERE sent_at IS NULL")
    await make_due(settings)
    assert await claim(database, key) is None
    (kept,) = await outbox(database, settings, tenant)
    assert kept.state is MessageState.GIVEN_UP and kept.attempts == 3


def test_pauses_double_up_to_an_hour() -> None:
    pauses = [pause(attempt).total_seconds() for attempt in (1, 2, 3, 8, 10**6)]
    assert [round(seconds / expected) for seconds, expected in zip(pauses, (30, 60, 120, 3600, 3600), strict=True)] == [
        1
    ] * 5
