"""One object of each kind of node, made for a tenant as its owner would make it; what is given is its id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from core.api_keys import create_key
from core.audit import Author, audit
from core.audit_trail import AuditFilter, list_entries
from core.database import Database
from core.dead_letters import Place
from core.eventlog import Offset, Partition
from core.identities import list_identities, recognise
from core.invitations import invite_member
from core.jobs import JobKind, ask_export
from core.key_requests import Grantor, KeyRequest
from core.members import Authority
from core.metric_checks import Definition
from core.metric_definitions import EventAggregate
from core.metric_store import MetricDraft, MetricStore
from core.metrics import MetricKind
from core.permissions import Role, Scope
from core.queries import named
from core.questions import Draft, Question, Questions
from core.sessions import open_session
from core.settings import Settings
from core.shares import Terms, create_link
from core.sign_in_connections import OidcConfig, SignInConnection, create_connection, new_connection
from core.sign_in_rules import Preset, Vouched
from core.tenancy import KeyKind, PersonId, Principal
from pipeline.prepared import prepare
from pipeline.store import Store
from resolvers.events import EPOCH
from resolvers.global_ids import global_id
from tests.pipeline.builders import batch_of, enriched

KEEP = named("aggregate", "keep_dead_letter")

Make = Callable[[Database, Settings, Principal], Awaitable[str]]


async def tenant_itself(database: Database, settings: Settings, owner: Principal) -> str:
    return global_id("Tenant", str(owner.tenant.id))


async def metric(database: Database, settings: Settings, owner: Principal) -> str:
    definition = Definition(MetricKind.COUNT, EventAggregate(dimensions=("country",)))
    draft = MetricDraft(key=f"made_{uuid4().hex[:12]}", definition=definition)
    return global_id("Metric", str((await MetricStore(database, owner, "request").create(draft)).id))


async def event(database: Database, settings: Settings, owner: Principal) -> str:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    made = enriched(timestamp_ms=now_ms, id=uuid4().bytes)
    batch = batch_of(owner.tenant.id, made)
    store = Store(database, f"maker-{owner.tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("maker"), await prepare([batch]), Offset("1-0"), lambda _: (Offset("2-0"), b""))
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return global_id("Event", f"{round((moment - EPOCH).total_seconds() * 1_000_000)}:{UUID(bytes=made.id)}")


async def dead_letter(database: Database, settings: Settings, owner: Principal) -> str:
    offset = str(uuid4().int % 10**9)
    async with database.as_writer() as session:
        await session.execute(KEEP, owner.tenant.id, "events.enriched", 0, offset, "aggregate", "reason", b"bytes")
    return global_id("DeadLetter", str(Place("aggregate", "events.enriched", 0, Offset(offset))))


async def api_key(database: Database, settings: Settings, owner: Principal) -> str:
    asked = KeyRequest(kind=KeyKind.SECRET, name="made", scopes=frozenset({Scope.METRICS_READ}))
    grantor, master_key = Grantor.operator(owner.tenant.id), settings.master_key_bytes()
    made = await create_key(database, owner.tenant.id, asked, grantor, master_key=master_key)
    return global_id("ApiKey", made.key_id)


async def question(database: Database, owner: Principal) -> Question:
    draft = Draft("Visits", "", '{"metric": "events", "range": {"last": "24h"}}', ("made",))
    return await Questions(database, owner, "request").create(draft, [])


async def saved_question(database: Database, settings: Settings, owner: Principal) -> str:
    return global_id("SavedQuestion", str((await question(database, owner)).id))


async def share_link(database: Database, settings: Settings, owner: Principal) -> str:
    shown = await question(database, owner)
    made = await create_link(
        database, owner, "request", "question", shown.id, name="made", terms=Terms(), expires_at=None
    )
    return global_id("ShareLink", str(made.link.id))


async def session(database: Database, settings: Settings, owner: Principal) -> str:
    opened = await open_session(
        database, settings, person_id=PersonId(UUID(str(owner.person_id))), tenant_id=owner.tenant.id,
        method="password", address="127.0.0.1", agent="", locked=False,
    )  # fmt: skip
    return global_id("Session", str(opened.session_id))


async def member(database: Database, settings: Settings, owner: Principal) -> str:
    return global_id("Member", str(owner.person_id))


async def invitation(database: Database, settings: Settings, owner: Principal) -> str:
    authority = Authority.operator(owner.tenant.id)
    made = await invite_member(database, settings, authority, f"{uuid4().hex}@people.example", Role.VIEWER)
    return global_id("Invitation", str(made.invitation.id))


async def audit_entry(database: Database, settings: Settings, owner: Principal) -> str:
    author = Author(owner.tenant.id, owner.actor, "request")
    async with database.as_tenant(owner.tenant.id, is_write=True) as session:
        await audit(session, author, "made.make", "made", {})
    (entry,) = await list_entries(database, owner.tenant.id, AuditFilter(action="made."), 1, None)
    return global_id("AuditEntry", str(entry.id))


async def job(database: Database, settings: Settings, owner: Principal) -> str:
    author = Author(owner.tenant.id, owner.actor, "request")
    made = await ask_export(database, author, JobKind.EXPORT_AUDIT_LOG, {"format": "csv"})
    return global_id("Job", str(made.id))


def oidc_connection(owner: Principal) -> SignInConnection:
    config = OidcConfig("https://login.example.com", "us")
    return new_connection(owner.tenant, preset=Preset.OIDC, name=uuid4().hex, config=config, now=datetime.now(UTC))


async def sign_in_connection(database: Database, settings: Settings, owner: Principal) -> str:
    made = await create_connection(database, Authority.of(owner, "request"), oidc_connection(owner))
    return global_id("SignInConnection", str(made.id))


async def sign_in_identity(database: Database, settings: Settings, owner: Principal) -> str:
    author = Author(owner.tenant.id, owner.actor, "request")
    made = await create_connection(database, Authority.of(owner, "request"), oidc_connection(owner))
    vouched = Vouched("https://login.example.com", uuid4().hex, None, False, "Ada", {})
    async with database.as_tenant(owner.tenant.id, is_write=True) as session:
        await recognise(session, author, made, vouched)
    (identity,) = await list_identities(database, owner.tenant.id, made.id, 2, None)
    return global_id("SignInIdentity", str(identity.id))


MAKERS: dict[str, Make] = {
    "Tenant": tenant_itself,
    "Metric": metric,
    "Event": event,
    "DeadLetter": dead_letter,
    "ApiKey": api_key,
    "SavedQuestion": saved_question,
    "ShareLink": share_link,
    "Session": session,
    "Member": member,
    "Invitation": invitation,
    "AuditEntry": audit_entry,
    "Job": job,
    "SignInConnection": sign_in_connection,
    "SignInIdentity": sign_in_identity,
}
