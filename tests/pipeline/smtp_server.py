"""A real SMTP server for tests (aiosmtpd), which can also refuse, put off, hang up and say nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Mailbox:
    """What came in. `replies` are given to RCPT one after the other before mail is taken; `data_reply` to DATA."""

    replies: list[str] = field(default_factory=list)
    data_reply: str = ""
    seconds: float = 0.0
    port: int = 0
    attempts: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    are_encrypted: list[bool] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, _: Any) -> str:
        self.attempts += 1
        await asyncio.sleep(self.seconds)
        if self.replies:
            return self.replies.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.data_reply:
            return self.data_reply
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients += envelope.rcpt_tos
        self.are_encrypted.append(session.ssl is not None)
        return "250 OK"

    def log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right/word", handled=False)


@asynccontextmanager
async def serving(
    mailbox: Mailbox, options: Mapping[str, Any] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Mailbox]:
    """The server on a free port; its `port` goes into the mailbox. `options` are aiosmtpd's; `tls`: from the start."""
    loop = asyncio.get_running_loop()
    made: list[SMTP] = []

    def make() -> SMTP:
        made.append(SMTP(mailbox, loop=loop, hostname="mail.test", **(options or {})))
        return made[-1]

    server = await loop.create_server(make, "127.0.0.1", mailbox.port, ssl=tls)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        for connection in made:
            # One that is lost has nothing left to be broken off.
            if connection.transport is not None and not connection.transport.is_closing():
                connection.transport.abort()
        await server.wait_closed()


def encrypted(certificate: str, key: str) -> dict[str, Any]:
    """Options of a server that takes mail after STARTTLS alone, and logins then."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return {"tls_context": context, "require_starttls": True}
