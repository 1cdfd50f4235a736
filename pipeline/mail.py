"""Sends what waits in the outbox, one message after the other over one connection; several processes share the work."""

from __future__ import annotations

import logging
from email.message import EmailMessage

from core.database import Database
from core.mail_server import MailServer, check_sender
from core.outbox import Claimed, claim, forget_messages, settle
from core.settings import Settings
from core.smtp import MAX_REASON_LENGTH, Outcome, PutOff, Refused, Sent, connected

log = logging.getLogger(__name__)

# A message is looked for this often.
LOOK_SECONDS = 2.0
# And after a server that was away or unwilling.
REST_SECONDS = 15.0
FORGET_SECONDS = 3600.0
# A connection is given up after so many, since servers close long ones.
MOST_A_CONNECTION = 100


class MailSender:
    """One process's sender."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._master_key = settings.master_key_bytes()
        self._server = MailServer.parse(settings.mail_url) if settings.mail_url else None
        self._from = settings.mail_from

    async def send_due(self) -> float:
        """Sends what is due, and says in how many seconds to look again. Without a server all waits."""
        if self._server is None:
            return FORGET_SECONDS
        first = await claim(self._database, self._master_key)
        if first is None:
            return LOOK_SECONDS
        sender = check_sender(self._from)
        is_well, claimed, count = True, first, 0
        async with connected(self._server) as connection:
            while True:
                mime = _written(claimed, self._from)
                if isinstance(mime, Refused):
                    outcome: Outcome = mime
                else:
                    outcome = await connection.send(mime, sender=sender, recipient=claimed.message.recipient)
                await settle(self._database, claimed, outcome)
                self._tell(str(claimed.id), claimed.attempt, outcome)
                is_well = is_well and not isinstance(outcome, PutOff)
                count += 1
                if not connection.is_usable or count == MOST_A_CONNECTION:
                    break
                following = await claim(self._database, self._master_key)
                if following is None:
                    break
                claimed = following
        return LOOK_SECONDS if is_well else REST_SECONDS

    async def forget(self) -> float:
        """Ends what is done with."""
        await forget_messages(self._database)
        return FORGET_SECONDS

    def _tell(self, message_id: str, attempt: int, outcome: Outcome) -> None:
        if isinstance(outcome, Sent):
            log.info("mail sent", extra={"action": "send_mail", "message_id": message_id, "attempts": attempt})
        elif isinstance(outcome, PutOff):
            extra = {"action": "send_mail", "message_id": message_id, "attempts": attempt, "reason": outcome.reason}
            log.warning("mail is put off", extra=extra)


def _written(claimed: Claimed, sender: str) -> EmailMessage | Refused:
    """A message as it is sent, or why it never can be. Whatever the library raises of a text, the other messages go on:
    its parser of headers knows IndexError and others beside its own errors."""
    try:
        mime = claimed.message.to_mime(claimed.id, sender)
        mime.as_bytes()
    except Exception as error:
        return Refused(f"it cannot be written: {type(error).__name__}: {error}"[:MAX_REASON_LENGTH])
    return mime
