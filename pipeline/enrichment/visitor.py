"""Who an event is of, as uniques count: keyed hashes, so that nobody's id or address can be read off a number."""

from __future__ import annotations

from uuid import UUID

from core.events import hash64, visitor_hash
from core.tenancy import TenantId


def visitor_of(tenant_id: UUID, user_id: str, anonymous_id: str, address: str, agent: str, key: bytes) -> int:
    """What uniques count; from the whole address, which is not kept."""
    return visitor_hash(
        TenantId(tenant_id), user_id=user_id, anonymous_id=anonymous_id, ip=address, user_agent=agent, key=key
    )


def session_of(session_id: str, key: bytes) -> int:
    """What sessions count."""
    return hash64("session", session_id, key)
