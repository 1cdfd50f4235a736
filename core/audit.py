"""The audit trail: who changed what, written in the transaction of the change, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from core.database import Session
from core.events import epoch_ms, new_event_id
from core.queries import named
from core.tenancy import Principal, TenantId

WRITE_AUDIT = named("audit", "write_audit")

# Never in an entry, whatever a caller hands over.
SECRET_FIELDS = frozenset({"password", "secret", "token", "client_secret", "refresh_token", "private_key"})
REDACTED = "[redacted]"
MAX_DIFF_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, in which tenant, by which request. `principal`: the caller, whose standing is asked anew
    within the transaction (`core.standing`); None for the operator and the platform itself."""

    tenant_id: TenantId
    actor: str
    request_id: str
    principal: Principal | None = None

    @classmethod
    def of(cls, principal: Principal, request_id: str) -> Author:
        """A change that a caller asks for."""
        return cls(principal.tenant.id, principal.actor, request_id, principal)

    @classmethod
    def operator(cls, tenant_id: TenantId, actor: str = "operator") -> Author:
        """A change from the command line; it has no request, so an id is made."""
        return cls(tenant_id, actor, str(new_event_id(epoch_ms(datetime.now(UTC)))))


async def audit(session: Session, author: Author, action: str, subject: str, diff: Mapping[str, Any]) -> None:
    """One entry. `action` is `thing.verb`, such as key.create; `diff` what changed: new values, or [old, new].

    Written last in a transaction: from here to its end it holds the end of the tenant's trail, and others wait. Entries
    of several tenants are written in the order of the tenants' ids."""
    text = msgspec.json.encode(redacted(diff))
    if len(text) > MAX_DIFF_BYTES:
        text = msgspec.json.encode({"fields": sorted(diff), "left_out_bytes": len(text)})
    await session.execute(
        WRITE_AUDIT, author.tenant_id, author.actor, action, subject, text.decode(), author.request_id
    )


def redacted(value: Any) -> Any:
    """The same without what is secret by its name, at any depth."""
    if isinstance(value, Mapping):
        return {key: REDACTED if key in SECRET_FIELDS else redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value
