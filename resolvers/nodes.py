"""Any object by its global id. An id of another tenant, of a kind the caller may not read, or of nothing at all is
answered alike: with null."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import strawberry
from strawberry import Info

from core.api_keys import load_keys
from core.audit_trail import find_entries
from core.dead_letters import Place
from core.errors import BadInput
from core.identities import load_identities
from core.invitations import load_invitations
from core.jobs import find_jobs
from core.members import load_members
from core.own_letters import find_own
from core.permissions import Permission
from core.sign_in_connections import load_connections
from resolvers.api_keys import key_id_of
from resolvers.audit import entry_key
from resolvers.context import Context, Load
from resolvers.events import event_key, load_events
from resolvers.global_ids import parse_global_id
from resolvers.jobs import job_key
from resolvers.metrics import find_metric_by_local_id
from resolvers.questions import load_question
from resolvers.sessions import find_own_session
from resolvers.shares import load_link

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of node: what it takes to read one, and how one is found by its local id."""

    permission: Permission
    find: Callable[[Context, str], Awaitable[Any]]


def loaded(load: Load[K, V], key_of: Callable[[str], K]) -> Callable[[Context, str], Awaitable[Any]]:
    """Finds by a loader; `key_of` reads a local id, and raises ValueError or BadInput for what is none."""

    async def find(context: Context, local: str) -> Any:
        try:
            key = key_of(local)
        except (ValueError, OverflowError, BadInput):
            return None
        return await context.loaders.of(load).load(key)

    return find


def by_uuid(find: Callable[[Context, UUID], Awaitable[Any]]) -> Callable[[Context, str], Awaitable[Any]]:
    """Finds an object whose local id is a UUID, as far as the caller may see it."""

    async def find_by_text(context: Context, local: str) -> Any:
        try:
            id = UUID(local)
        except ValueError:
            return None
        return await find(context, id)

    return find_by_text


async def _own_tenant(context: Context, local: str) -> Any:
    tenant = context.principal.tenant
    return tenant if local == str(tenant.id) else None


KINDS: dict[str, Kind] = {
    "Tenant": Kind(Permission.TENANT_READ, _own_tenant),
    "Metric": Kind(Permission.METRICS_READ, find_metric_by_local_id),
    "Event": Kind(Permission.EVENTS_READ, loaded(load_events, event_key)),
    "AuditEntry": Kind(Permission.AUDIT_READ, loaded(find_entries, entry_key)),
    "Job": Kind(Permission.EXPORTS_WRITE, loaded(find_jobs, job_key)),
    "Session": Kind(Permission.IDENTITY_READ, find_own_session),
    "SavedQuestion": Kind(Permission.QUESTIONS_READ, by_uuid(load_question)),
    "ShareLink": Kind(Permission.SHARES_WRITE, by_uuid(load_link)),
    "DeadLetter": Kind(Permission.DEAD_LETTERS_READ, loaded(find_own, Place.parse)),
    "SignInConnection": Kind(Permission.SIGN_IN_WRITE, loaded(load_connections, UUID)),
    "SignInIdentity": Kind(Permission.SIGN_IN_WRITE, loaded(load_identities, UUID)),
    "ApiKey": Kind(Permission.KEYS_READ, loaded(load_keys, key_id_of)),
    "Member": Kind(Permission.MEMBERS_READ, loaded(load_members, UUID)),
    "Invitation": Kind(Permission.MEMBERS_WRITE, loaded(load_invitations, UUID)),
}


async def resolve_node(info: Info[Context, None], id: strawberry.ID) -> Any:
    """The object with a global id, or None."""
    name, local = parse_global_id(id)
    kind = KINDS.get(name)
    if kind is None or not info.context.principal.may(kind.permission):
        return None
    return await kind.find(info.context, local)


async def resolve_nodes(info: Info[Context, None], ids: list[strawberry.ID]) -> list[Any]:
    """The objects with these ids, None where there is none, in the order asked."""
    # All at once, so that those of a kind are one look-up.
    return await asyncio.gather(*(resolve_node(info, id) for id in ids))
