"""Share links: a random token that shows one object, on terms its bearer cannot widen. Kept as a hash; shown once.

A link is worth no more than its maker: while that one is no member or no live key, or may not share, or does not manage
the object, the doors refuse the link. What an object of some kind is, this module does not know: only its list.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from core.access import AccessList, Level, grantees_of, level_of, object_name, require
from core.accounts import tenant_of
from core.audit import Author, audit
from core.budget import Budget
from core.database import Database
from core.errors import BadInput, NotFound
from core.keys import hash_secret
from core.permissions import Permission, Role, Scope
from core.queries import Query, named
from core.standing import require_standing
from core.tenancy import KeyId, PersonId, Principal, Tenant, TenantId, checked_name

PREFIX = "cm_sl_"
_TOKEN = re.compile(r"cm_sl_[A-Za-z0-9_-]{43}")
DEFAULT_DAYS = 30
MAX_DAYS = 365
# Of one object.
MAX_LIVE = 50
SHOWN = 100
COST_PER_MINUTE = range(100, 100_001)
ROWS_PER_HOUR = range(1_000, 1_000_000_001)

_COLUMNS = named("shares", "columns").text
INSERT = named("shares", "insert_link").filled(columns=_COLUMNS)
LIST = named("shares", "list_links").filled(columns=_COLUMNS)
FIND = named("shares", "find_links").filled(columns=_COLUMNS)
REVOKE = named("shares", "revoke_link").filled(columns=_COLUMNS)
COUNT_LIVE = named("shares", "count_live_links")
LOCK_OBJECT = named("shares", "lock_object_links")
FIND_BY_TOKEN = named("shares", "find_link_by_token")
# Of each kind of object that can be shared: its name in the API, and its access list.
SHARED_KINDS: dict[str, tuple[str, Query]] = {
    "question": ("SavedQuestion", named("questions", "access_of_question")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a link's bearer may: `locked_filters` (JSON) always hold; `ranges` ("24h") beside the object's own;
    `filter_dimensions` may be narrowed by (None: those it is grouped by); points of document cost a minute, stored rows
    read an hour."""

    locked_filters: str = "[]"
    ranges: tuple[str, ...] = ()
    filter_dimensions: tuple[str, ...] | None = None
    cost_per_minute: int = 1_000
    rows_per_hour: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLink:
    """A link as those see it who manage its object."""

    id: UUID
    object_kind: str
    object_id: UUID
    name: str
    terms: Terms
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    uses: int

    @property
    def is_live(self) -> bool:
        """Neither revoked nor past its end; its maker is looked at when it is used."""
        return self.revoked_at is None and self.expires_at > datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A new link, and the only moment at which its token is known."""

    link: ShareLink
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareGrant:
    """A live link as the doors know it."""

    link_id: UUID
    tenant: Tenant
    object_kind: str
    object_id: UUID
    terms: Terms
    expires_at: datetime

    def principal(self) -> Principal:
        return Principal.of_share_link(self.tenant, self.link_id, object_name(self.object_kind, self.object_id))


def cost_budget(grant: ShareGrant) -> Budget:
    """Points of document cost that a link may spend in a minute."""
    return Budget(f"{grant.tenant.id}:share:{grant.link_id}:cost", "points of cost", grant.terms.cost_per_minute, 60)


def rows_budget(grant: ShareGrant) -> Budget:
    """Stored rows that a link may have read in an hour."""
    return Budget(f"{grant.tenant.id}:share:{grant.link_id}:rows", "stored rows", grant.terms.rows_per_hour, 3600)


def is_share_token(text: str) -> bool:
    return text.startswith(PREFIX)


def is_well_formed(text: str) -> bool:
    """Whether text could be a token at all; saves a look-up for what cannot."""
    return _TOKEN.fullmatch(text) is not None


async def create_link(
    database: Database,
    principal: Principal,
    request_id: str,
    object_kind: str,
    object_id: UUID,
    *,
    name: str,
    terms: Terms,
    expires_at: datetime | None,
) -> MadeLink:
    """A new link to an object that the caller manages.

    Raises:
        NotFound, PermissionDenied; BadInput: a number, the end or the name cannot be used, or there are too many.
    """
    ends = check_link(name, terms, expires_at)
    kind, access_query = SHARED_KINDS[object_kind]
    token = PREFIX + secrets.token_urlsafe(32)
    grantees = grantees_of(principal)
    async with database.as_tenant(principal.tenant.id, is_write=True, grantees=grantees) as session:
        await require_standing(session, principal)
        row = await session.fetchrow(access_query, principal.tenant.id, object_id)
        if row is None:
            raise NotFound(f"There is no {kind} with that id.", field="objectId")
        require(level_of(grantees, _access_of(row)), Level.MANAGE, object_kind)
        await session.execute(LOCK_OBJECT, f"{principal.tenant.id}:{object_name(object_kind, object_id)}")
        count = await session.fetchrow(COUNT_LIVE, object_kind, object_id)
        if count and count["count"] >= MAX_LIVE:
            raise BadInput(f"An object has at most {MAX_LIVE} live links; revoke one.", code="too_many")
        values = (name, hash_secret(token), terms.locked_filters, list(terms.ranges),
                  None if terms.filter_dimensions is None else list(terms.filter_dimensions), terms.cost_per_minute,
                  terms.rows_per_hour, principal.actor, ends)  # fmt: skip
        link = link_of(await session.fetchrow(INSERT, uuid4(), object_kind, object_id, *values))
        told = {"object": object_name(object_kind, object_id), "expires_at": ends.isoformat(), "terms": _told(terms)}
        author = Author(principal.tenant.id, principal.actor, request_id)
        await audit(session, author, "share_link.create", f"share_link:{link.id}", told)
    return MadeLink(link, token)


async def revoke_link(database: Database, principal: Principal, request_id: str, id: UUID) -> ShareLink:
    """Ends a link for ever; the doors refuse it within 5 seconds. Once more changes nothing.

    Raises:
        NotFound: the caller manages no object with such a link.
    """
    grantees = grantees_of(principal)
    async with database.as_tenant(principal.tenant.id, is_write=True, grantees=grantees) as session:
        await require_standing(session, principal)
        row = await session.fetchrow(REVOKE, id, principal.actor)
        if row is None:
            known = await session.fetchrow(FIND, [id])
            if known is None:
                raise NotFound("There is no ShareLink with that id.", field="id")
            return link_of(known)
        link = link_of(row)
        author = Author(principal.tenant.id, principal.actor, request_id)
        told = {"object": object_name(link.object_kind, link.object_id)}
        await audit(session, author, "share_link.revoke", f"share_link:{id}", told)
    return link


async def links_of_objects(
    database: Database, tenant_id: TenantId, grantees: Sequence[str], object_kind: str, ids: Sequence[UUID]
) -> dict[UUID, list[ShareLink]]:
    """The newest links of some objects, dead ones too; none of those that the caller does not manage."""
    async with database.as_tenant(tenant_id, grantees=grantees) as session:
        rows = await session.fetch(LIST, object_kind, list(ids), SHOWN)
    found: defaultdict[UUID, list[ShareLink]] = defaultdict(list)
    for row in rows:
        link = link_of(row)
        found[link.object_id].append(link)
    return found


async def find_links(
    database: Database, tenant_id: TenantId, grantees: Sequence[str], ids: Sequence[UUID]
) -> dict[UUID, ShareLink]:
    """Links by their ids, of those that the caller manages."""
    async with database.as_tenant(tenant_id, grantees=grantees) as session:
        return {link.id: link for link in map(link_of, await session.fetch(FIND, list(ids)))}


async def find_grant(database: Database, token: str) -> ShareGrant | None:
    """The live link of a token; None also when its object is gone, its maker may not share it any more,
    or its tenant is to be deleted."""
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND_BY_TOKEN, hash_secret(token))
        if row is None or row["ends_at"] is not None:
            return None
        _, access_query = SHARED_KINDS[row["object_kind"]]
        access = await session.fetchrow(access_query, row["tenant_id"], row["object_id"])
    tenant = tenant_of(row)
    maker = maker_of(tenant, row["created_by"], row["maker_role"], row["maker_scopes"])
    if access is None or maker is None or not may_share(maker, _access_of(access)):
        return None
    return ShareGrant(
        link_id=UUID(str(row["id"])),
        tenant=tenant,
        object_kind=row["object_kind"],
        object_id=UUID(str(row["object_id"])),
        terms=_terms_of(row),
        expires_at=row["expires_at"],
    )


def maker_of(tenant: Tenant, actor: str, role: str | None, scopes: Sequence[str] | None) -> Principal | None:
    """What a link's maker is now: a member, a live key, or nobody any more."""
    if role is not None:
        return Principal.of_person(tenant, PersonId(UUID(actor.removeprefix("person:"))), Role(role), None)
    if scopes is not None:
        return Principal.of_key(tenant, KeyId(actor), frozenset(Scope(scope) for scope in scopes))
    return None


def may_share(principal: Principal, access: AccessList) -> bool:
    """Whether a caller may share an object with this list."""
    return principal.may(Permission.SHARES_WRITE) and level_of(grantees_of(principal), access) is Level.MANAGE


def check_link(name: str, terms: Terms, expires_at: datetime | None) -> datetime:
    """Refuses what no link may have; its end, 30 days ahead when none is given.

    Raises:
        BadInput: names the field and the limit.
    """
    checked_name(name)
    for field, value, within in (
        ("costPerMinute", terms.cost_per_minute, COST_PER_MINUTE),
        ("rowsPerHour", terms.rows_per_hour, ROWS_PER_HOUR),
    ):
        if value not in within:
            raise BadInput(f"{field} must be {within.start} to {within.stop - 1}, not {value}.", field=field)
    now = datetime.now(UTC)
    ends = expires_at or now + timedelta(days=DEFAULT_DAYS)
    if ends.tzinfo is None or not now < ends <= now + timedelta(days=MAX_DAYS):
        raise BadInput(
            f"expiresAt must have a zone and lie ahead, at most {MAX_DAYS} days.", code="bad_expiry", field="expiresAt"
        )
    return ends


def link_of(row: Any) -> ShareLink:
    """A link from a row of its columns."""
    return ShareLink(
        id=UUID(str(row["id"])),
        object_kind=row["object_kind"],
        object_id=UUID(str(row["object_id"])),
        name=row["name"],
        terms=_terms_of(row),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        uses=row["uses"],
    )


def _terms_of(row: Any) -> Terms:
    dimensions = row["filter_dimensions"]
    return Terms(
        locked_filters=row["locked_filters"],
        ranges=tuple(row["ranges"]),
        filter_dimensions=None if dimensions is None else tuple(dimensions),
        cost_per_minute=row["cost_per_minute"],
        rows_per_hour=row["rows_per_hour"],
    )


def _access_of(row: Any) -> AccessList:
    return AccessList(row["owner"], tuple(row["viewers"]), tuple(row["editors"]), tuple(row["managers"]))


def _told(terms: Terms) -> dict[str, Any]:
    """Terms as the audit trail has them."""
    return {**msgspec.to_builtins(terms), "locked_filters": msgspec.json.decode(terms.locked_filters)}
