"""SMTP over TLS to a real server: no password and no link goes to whoever has not proved who it is."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.message import EmailMessage
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.mail import MailKind, Message
from core.mail_server import MailServer
from core.smtp import Outcome, PutOff, Refused, Sent, connected
from tests.pipeline.smtp_server import Mailbox, encrypted, serving

MESSAGE = Message(kind=MailKind.INVITATION, recipient="ada@example.com", subject="Hello", text="Text\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def send(server: MailServer) -> Outcome:
    async with connected(server) as connection:
        mime = MESSAGE.to_mime(uuid4(), "cm@example.com")
        return await connection.send(mime, sender="cm@example.com", recipient=MESSAGE.recipient)


def server_at(port: int, **given: object) -> MailServer:
    wanted = {"username": None, "password": None, "is_tls": False, "starttls": True}
    return MailServer(host="127.0.0.1", port=port, **{**wanted, **given})  # type: ignore[arg-type]


async def test_starttls_to_a_server_that_is_trusted_and_a_login_within_it(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    mailbox = Mailbox()
    options = {**encrypted(*certificate), "authenticator": mailbox.log_in, "auth_required": True}
    async with serving(mailbox, options):
        assert await send(server_at(mailbox.port, username="cm", password="right/word")) == Sent()
    assert (mailbox.are_encrypted, mailbox.logins) == ([True], [("cm", "right/word")])


async def test_a_password_that_is_refused_is_the_operators_to_mend_and_the_message_waits(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    mailbox = Mailbox()
    options = {**encrypted(*certificate), "authenticator": mailbox.log_in, "auth_required": True}
    async with serving(mailbox, options):
        outcome = await send(server_at(mailbox.port, username="cm", password="wrong"))
    assert isinstance(outcome, PutOff) and "SMTPAuthenticationError: 535" in outcome.reason


async def test_a_server_whose_certificate_nobody_trusts_gets_nothing(certificate: tuple[str, str]) -> None:
    async with serving(Mailbox(), encrypted(*certificate)) as mailbox:
        outcome = await send(server_at(mailbox.port))
    assert isinstance(outcome, PutOff) and "certificate" in outcome.reason.lower()
    assert (mailbox.attempts, mailbox.messages) == (0, [])


async def test_a_server_elsewhere_that_offers_no_starttls_gets_nothing() -> None:
    async with serving(Mailbox()) as mailbox:
        outcome = await send(server_at(mailbox.port))
        assert isinstance(outcome, PutOff) and mailbox.attempts == 0
        assert await send(server_at(mailbox.port, starttls=False)) == Sent()


class Unwritable(EmailMessage):
    """What cannot be written, as newer Pythons say of a header that is more than one line (CVE-2024-6923)."""

    def raw_items(self) -> Iterator[tuple[str, str]]:
        raise MessageError("Subject has an end of line within")


async def test_a_header_that_the_library_refuses_to_write_is_final() -> None:
    async with serving(Mailbox()) as mailbox, connected(server_at(mailbox.port, starttls=False)) as connection:
        outcome = await connection.send(Unwritable(), sender="cm@example.com", recipient=MESSAGE.recipient)
    assert isinstance(outcome, Refused) and "end of line" in outcome.reason and mailbox.messages == []


async def test_tls_from_the_start(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with serving(Mailbox(), {}, context) as mailbox:
        assert await send(server_at(mailbox.port, is_tls=True, starttls=False)) == Sent()
        outcome = await send(server_at(mailbox.port, starttls=False))
    assert isinstance(outcome, PutOff) and len(mailbox.messages) == 1
