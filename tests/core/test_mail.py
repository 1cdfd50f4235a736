"""Messages: nothing that a name or an address holds becomes a header or a second recipient."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest

from core.errors import BadInput, Misconfigured
from core.mail import MailKind, Message, seal_text, unseal_text
from core.mail_server import MailServer, check_sender


def message(**given: str) -> Message:
    wanted = {"recipient": "ada@example.com", "subject": "Hello", "text": "Text\n"}
    return Message(kind=MailKind.INVITATION, **{**wanted, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recipient",
    ["", "ada", "a@b@c", "=?utf-8?q??=@corp.com",
     "ada@example.com\r\nBcc: eve@evil.test", "ada@example.com,eve@evil.test",
     "<ada@example.com>",
     "ada@example.com>\r\nDATA", "ada @example.com", '"a"@example.com', "ada@exämple.com", "x" * 65 + "@example.com"],
)  # fmt: skip
def test_a_recipient_is_one_address_and_nothing_else(recipient: str) -> None:
    with pytest.raises(BadInput):
        message(recipient=recipient)


@pytest.mark.parametrize(
    "subject",
    [
        "a\r\nBcc: eve@evil.test",
        "a\nb",
        "a\x00b",
        "x" * 201,
        "a\u2028b",
        "=?utf-8?q?a=0D=0ABcc:_victim=40x.org=0D=0A=0D=0Ahello?=",
        "Hi =?utf-8?b?DQo=?=",
    ],
)
def test_a_subject_is_one_line(subject: str) -> None:
    with pytest.raises(BadInput):
        message(subject=subject)


def test_a_subject_of_any_script_is_one_encoded_header() -> None:
    text = message(subject="Grüße, 東京").to_mime(uuid4(), "Zoë <cm@example.com>").as_bytes()
    assert text.isascii() and text.count(b"\r\nSubject: =?utf-8?") == 1


def test_a_header_that_is_more_than_one_line_is_not_written_whatever_came_before() -> None:
    unchecked = message()
    object.__setattr__(unchecked, "subject", "=?utf-8?q?a=0D=0ABcc:_victim=40x.org?=")
    with pytest.raises(BadInput, match="one line"):
        unchecked.to_mime(uuid4(), "cm@example.com")


def test_a_text_is_sealed_to_its_message() -> None:
    key, first, second = os.urandom(32), uuid4(), uuid4()
    sealed = seal_text(message(text="token=abc"), first, key)
    assert b"abc" not in sealed and unseal_text(sealed, first, key) == ("Hello", "token=abc")
    for wrong in ((second, key), (first, os.urandom(32))):
        with pytest.raises(Misconfigured, match="MASTER_KEY"):
            unseal_text(sealed, *wrong)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://u%40x:p%2Fw@mail.test", MailServer("mail.test", 587, "u@x", "p/w", False, True)),
        ("smtps://mail.test:4650", MailServer("mail.test", 4650, None, None, True, False)),
        ("smtp://127.0.0.1:25", MailServer("127.0.0.1", 25, None, None, False, None)),
        ("smtp://relay.local:25?starttls=no", MailServer("relay.local", 25, None, None, False, False)),
        ("smtp://[::1]:2525/", MailServer("::1", 2525, None, None, False, None)),
    ],
)
def test_a_server_that_is_elsewhere_must_encrypt(url: str, server: MailServer) -> None:
    assert MailServer.parse(url) == server


@pytest.mark.parametrize(
    "url", ["", "mail.test", "http://mail.test", "smtp://", "smtp://u:secret@mail.test:99999", "smtp://m/path",
            "smtp://m?starttls=perhaps", "smtp://m?other=1"],
)  # fmt: skip
def test_another_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(Misconfigured, match="MAIL_URL") as refusal:
        MailServer.parse(url)
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize("text", ["", "CloudMetrics", "a@", "@b", "A <a@b>\r\nBcc: c@d", "ä@b.test", "a b@c"])
def test_a_sender_is_an_address(text: str) -> None:
    with pytest.raises(Misconfigured, match="MAIL_FROM"):
        check_sender(text)


def test_a_sender_may_have_a_name() -> None:
    assert check_sender("CloudMetrics <cm@example.com>") == check_sender("cm@example.com") == "cm@example.com"
