"""Sign-ins by an identity provider that are under way: begun by one browser, ended once, within ten minutes. The
database keeps hashes alone; what goes to the provider is derived from the state under the master key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from core.database import Session
from core.errors import InvalidRequest
from core.queries import named
from core.tenancy import PersonId

INSERT = named("sign_in", "insert_attempt")
FIND = named("sign_in", "find_attempt")
TAKE = named("sign_in", "take_attempt")
DROP_OLD = named("sign_in", "drop_old_attempts")
KEEP_ASSERTION = named("sign_in", "keep_assertion")
DROP_OLD_ASSERTIONS = named("sign_in", "drop_old_assertions")

ATTEMPT_SECONDS = 600.0
TICKET_SECONDS = 60.0


class Purpose(StrEnum):
    """What is awaited."""

    OIDC = "oidc"
    SAML = "saml"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was awaited from a browser. `person_id`: of tickets alone."""

    connection_id: UUID
    browser: bytes
    next: str
    person_id: PersonId | None

    def is_of(self, browser: str) -> bool:
        """Whether the browser with this cookie began it."""
        return hmac.compare_digest(self.browser, hashed(browser))


def new_secret() -> str:
    """A state, ticket or browser cookie: 256 bits."""
    return secrets.token_urlsafe(32)


def hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def derived(use: str, state: str, master_key: bytes) -> str:
    """A nonce or code verifier (43 characters, RFC 7636, 4.1) that only we can know of a state."""
    return urlsafe_b64encode(hmac.digest(master_key, f"sign_in:{use}:{state}".encode(), "sha256")).decode().rstrip("=")


async def await_attempt(session: Session, purpose: Purpose, id: str, attempt: Attempt) -> None:
    """Notes what is awaited, within a write transaction of the tenant; clears away what did not come."""
    await session.execute(DROP_OLD)
    seconds = TICKET_SECONDS if purpose is Purpose.TICKET else ATTEMPT_SECONDS
    await session.execute(
        INSERT, purpose.value, hashed(id), attempt.connection_id, attempt.browser, attempt.next, attempt.person_id,
        seconds,
    )  # fmt: skip


async def find_attempt(session: Session, purpose: Purpose, id: str) -> Attempt | None:
    """What is awaited under this id, for whoever must know before it is decided. None: nothing, or too late."""
    return _attempt(await session.fetchrow(FIND, purpose.value, hashed(id)))


async def take_attempt(session: Session, purpose: Purpose, id: str) -> Attempt | None:
    """What was awaited under this id, taken away: of two who ask at once, one gets it. None: nothing, or too late."""
    return _attempt(await session.fetchrow(TAKE, purpose.value, hashed(id)))


def _attempt(row: Any) -> Attempt | None:
    if row is None or not row["is_live"]:
        return None
    person_id = None if row["person_id"] is None else PersonId(row["person_id"])
    return Attempt(row["connection_id"], row["browser"], row["next"], person_id)


async def take_assertion(session: Session, connection_id: UUID, assertion_id: str, expires_at: datetime) -> None:
    """Notes that an assertion was taken.

    Raises:
        InvalidRequest: it was taken before.
    """
    await session.execute(DROP_OLD_ASSERTIONS)
    if await session.fetchrow(KEEP_ASSERTION, connection_id, hashed(assertion_id), expires_at) is None:
        raise InvalidRequest("This SAML assertion was used before; sign in again.", code="saml_replay", status=403)
