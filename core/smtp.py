"""SMTP: one message to a real server, within bounded time, and what came of it.

What may pass is put off: no answer, a 4yz reply (RFC 5321, 4.2.1; greylisting is one), a login or a sender that is
refused, which the operator can mend. A 5yz reply to this recipient or this text is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage

import aiosmtplib

from core.mail_server import MailServer

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 20.0
# One message in all, whatever the server does.
SEND_SECONDS = 60.0
MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Sent:
    """The server has it."""


@dataclass(frozen=True, slots=True)
class PutOff:
    """Not now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Never."""

    reason: str


Outcome = Sent | PutOff | Refused


@dataclass(frozen=True, slots=True)
class SmtpConnection:
    """A server that is connected to, or why it is not."""

    client: aiosmtplib.SMTP | None
    trouble: str = ""

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> Outcome:
        """Sends one message."""
        if self.client is None:
            return PutOff(self.trouble)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.client.send_message(message, sender=sender, recipients=[recipient])
            return Sent()
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError, MessageError) as error:
            return _outcome_of(error)

    @property
    def is_usable(self) -> bool:
        """Whether another message can go the same way."""
        return self.client is not None and self.client.is_connected


@asynccontextmanager
async def connected(server: MailServer) -> AsyncIterator[SmtpConnection]:
    """A connection for some messages. One that cannot be had is no error: its messages are put off."""
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        timeout=COMMAND_SECONDS,
        use_tls=server.is_tls,
        start_tls=server.starttls,
    )
    connection = SmtpConnection(client)
    try:
        async with asyncio.timeout(COMMAND_SECONDS + CONNECT_SECONDS):
            await client.connect(timeout=CONNECT_SECONDS)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        client.close()
        connection = SmtpConnection(None, _told(error))
    try:
        yield connection
    finally:
        with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            if client.is_connected:
                await client.quit(timeout=CONNECT_SECONDS)
        client.close()


def _outcome_of(error: Exception) -> Outcome:
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            refusals = error.recipients
            is_final = bool(refusals) and all(refusal.code >= 500 for refusal in refusals)
            reason = "; ".join(_told(refusal) for refusal in refusals)
        case aiosmtplib.SMTPRecipientRefused() | aiosmtplib.SMTPDataError():
            is_final, reason = error.code >= 500, _told(error)
        case aiosmtplib.SMTPNotSupported() | ValueError() | MessageError():
            is_final, reason = True, _told(error)
        case _:
            is_final, reason = False, _told(error)
    return (Refused if is_final else PutOff)(reason[:MAX_REASON_LENGTH])


def _told(error: Exception) -> str:
    """What a person can act on; a server's reply on one line."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{error.code} {error.message}"
    else:
        text = str(error) or f"no answer within {COMMAND_SECONDS:.0f} s"
    printable = "".join(character if character.isprintable() else " " for character in text)
    return f"{type(error).__name__}: {printable}"[:MAX_REASON_LENGTH]
