"""Mail: a message, and how it is put into the outbox in the transaction of what it tells. It is sent later, by a worker
(`core/outbox.py`); where no server is configured, it waits there for the operator to hand it over."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from enum import StrEnum
from uuid import UUID, uuid4

import msgspec

from core.database import Session
from core.errors import BadInput, Misconfigured
from core.keys import seal, unseal
from core.queries import named
from core.tenancy import ENCODED_WORD, TenantId

PUT = named("outbox", "put_message")
# As long as senders keep at it, by custom (RFC 5321, 4.5.4.1: four to five days; a link is of no use then).
KEEP_TRYING = timedelta(days=3)
MAX_SUBJECT_LENGTH = 200
# One address as SMTP's envelope takes it: nothing that could end a line or begin another argument.
_RECIPIENT = re.compile(r"[^\s<>@,;:\"\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,255}")


class MailKind(StrEnum):
    """What a message is about."""

    INVITATION = "invitation"
    PASSWORD_RESET = "password_reset"
    PASSWORD_CHANGED = "password_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to one address, plain text. `keep_trying`: for so long it is of use."""

    kind: MailKind
    recipient: str
    subject: str
    text: str = field(repr=False)
    keep_trying: timedelta = KEEP_TRYING

    def __post_init__(self) -> None:
        """Raises BadInput for what would make a second header, or a second recipient."""
        if not _RECIPIENT.fullmatch(self.recipient) or ENCODED_WORD in self.recipient:
            raise BadInput("The recipient must be one address, such as ada@example.com.", field="email")
        is_line = self.subject.isprintable() and ENCODED_WORD not in self.subject
        if not is_line or len(self.subject) > MAX_SUBJECT_LENGTH:
            raise BadInput(
                f"A subject has at most {MAX_SUBJECT_LENGTH} characters, all of them printable, and no {ENCODED_WORD}."
            )

    def to_mime(self, message_id: UUID, sender: str) -> EmailMessage:
        """As it goes over the wire; the same Message-ID at each attempt, so that a mailbox can tell a repeat.

        Raises:
            BadInput: a header would be more than one line.
        """
        name, address = parseaddr(sender)
        mime = EmailMessage(policy=SMTP)
        mime["From"] = Address(name, addr_spec=address)
        mime["To"] = self.recipient
        mime["Subject"] = self.subject
        mime["Date"] = format_datetime(datetime.now(UTC))
        mime["Message-ID"] = f"<{message_id}@{address.rpartition('@')[2]}>"
        # No holiday notice is to answer it (RFC 3834, 5).
        mime["Auto-Submitted"] = "auto-generated"
        mime.set_content(self.text)
        # Headers are what the library has read out of the texts, not the texts.
        if any("\r" in value or "\n" in value for value in mime.values()):
            raise BadInput("A header of this message would be more than one line; it is not sent.")
        return mime


# How long a message is worth sending, by what its link is good for.
OF_USE: dict[MailKind, timedelta] = {
    MailKind.INVITATION: timedelta(days=7),
    MailKind.PASSWORD_RESET: timedelta(hours=1),
    MailKind.PASSWORD_CHANGED: timedelta(days=7),
}


def is_of_use(kind: MailKind, created_at: datetime) -> bool:
    """Whether a message that was written then is still worth sending."""
    return datetime.now(UTC) < created_at + OF_USE[kind]


class _Sealed(msgspec.Struct, frozen=True):
    subject: str
    text: str


async def put_message(
    session: Session, message: Message, *, tenant_id: TenantId | None, master_key: bytes, never: str = ""
) -> UUID:
    """Puts a message into the outbox; it is there when the transaction is, and not otherwise. `never`: why it is not to
    be sent, for one that is put there only so that nobody can tell."""
    message_id = uuid4()
    sealed = seal_text(message, message_id, master_key)
    await session.execute(
        PUT, message_id, tenant_id, message.kind.value, message.recipient, sealed, message.keep_trying, never
    )
    return message_id


def seal_text(message: Message, message_id: UUID, master_key: bytes) -> bytes:
    """Subject and text, readable with the master key alone."""
    text = msgspec.json.encode(_Sealed(message.subject, message.text)).decode()
    return seal(text, key_id=f"mail:{message_id}", master_key=master_key)


def unseal_text(sealed: bytes, message_id: UUID, master_key: bytes) -> tuple[str, str]:
    """Subject and text again.

    Raises:
        Misconfigured: another master key sealed them.
    """
    try:
        text = unseal(sealed, key_id=f"mail:{message_id}", master_key=master_key)
    except Misconfigured:
        raise Misconfigured("a message was sealed with another CLOUDMETRICS_MASTER_KEY") from None
    clear = msgspec.json.decode(text, type=_Sealed)
    return clear.subject, clear.text
