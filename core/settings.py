"""Settings: the environment in, one frozen value out. The only reader of the environment."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
from dataclasses import field as dataclass_field
from typing import Any
from urllib.parse import urlsplit

from core.errors import Misconfigured
from core.mail_server import MailServer, check_sender

PREFIX = "CLOUDMETRICS_"
MEGABYTE = 1024 * 1024


ONE_OF = {
    "tenant_topics": ("each", "shared"),
    "log_fsync": ("everysec", "always"),
    "identity_providers": ("public", "loopback"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "trusted_documents": ("off", "on", "only"),
}
WITHIN: dict[str, tuple[float, float]] = {
    "port": (1, 65535),
    "web_workers": (1, 64),
    "log_max_bytes": (16 * MEGABYTE, 2**50),
    "log_retention_hours": (0, 24 * 366),
    "log_partitions": (1, 1000),
    "kafka_replication": (1, 10),
    "retention_days": (0, 36_500),
    "rollup_retention_days": (0, 36_500),
    "hourly_retention_days": (0, 36_500),
    "requests_per_minute": (0, 10**9),
    "heartbeat_seconds": (0.1, 3600),
    "deletion_grace_days": (0, 366),
}


def setting(default: Any, meaning: str, *, secret: bool = False) -> Any:
    """A dataclass field that carries its meaning for `--help` and the README's table."""
    return dataclass_field(default=default, metadata={"meaning": meaning, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, named `CLOUDMETRICS_<FIELD>` in the environment."""

    host: str = setting("127.0.0.1", "address the web process listens on")
    port: int = setting(8000, "port the web process listens on")
    web_workers: int = setting(1, "web processes behind that port; docs/web-workers.md")
    owner_url: str = setting("", "PostgreSQL as the owner of the tables; `sql migrate` only", secret=True)
    app_url: str = setting("", "PostgreSQL as the application, held by row-level security", secret=True)
    writer_url: str = setting("", "PostgreSQL as the aggregate worker", secret=True)
    doorkeeper_url: str = setting("", "PostgreSQL for key look-ups", secret=True)
    redis_url: str = setting(
        "redis://127.0.0.1:6379/0", "Valkey or Redis 7.2+: log, limits, hot sets, live", secret=True
    )
    master_key: str = setting("", "32 bytes in base64: seals signing secrets, keys visitor hashes", secret=True)
    kafka_brokers: str = setting("", "Kafka as the log, host:port, comma-separated; none: Valkey Streams")
    log_partitions: int = setting(4, "partitions of a topic that is shared by tenants, when it is made")
    kafka_replication: int = setting(1, "Kafka: replicas of each topic, when it is made; 3 on a cluster")
    retention_days: int = setting(0, "self_hosted tenants: raw events are kept this long; 0: for ever")
    rollup_retention_days: int = setting(0, "self_hosted tenants: rollups of 1 and 5 minutes likewise; 0: for ever")
    hourly_retention_days: int = setting(0, "self_hosted tenants: rollups of an hour likewise; 0: for ever")
    tenant_topics: str = setting("each", "`each`: a raw topic per tenant; `shared`: one for all")
    log_max_bytes: int = setting(1024 * MEGABYTE, "the log refuses new events (503) above this size")
    log_retention_hours: int = setting(72, "the log keeps consumed records this long, unless its size forbids")
    log_fsync: str = setting("everysec", "embedded log: `everysec` may lose 1 s in a power cut, `always` nothing")
    requests_per_minute: int = setting(0, "requests a minute per key, 0: as the tenant's tier says")
    export_folder: str = setting("", "where exports are kept, shared by web and jobs; embedded: in the data folder")
    deletion_grace_days: float = setting(7.0, "a tenant can be restored this long after its deletion was asked for")
    geo_database: str = setting("", "path of an MMDB file for country, region, city; none: unknown")
    country_header: str = setting("", "header in which a CDN sends the country, e.g. CloudFront-Viewer-Country")
    trusted_proxies: str = setting("", "addresses whose X-Forwarded-For is believed, comma-separated")
    heartbeat_seconds: float = setting(15.0, "a live stream that is silent this long sends a heartbeat")
    trusted_documents: str = setting("off", "`on`: GraphQL documents by hash too; `only`: nothing else from browsers")
    trusted_documents_path: str = setting("", "their manifest, made by `python -m schema manifest`; docs/graphql.md")
    postgres_bin: str = setting("", "embedded size: folder with another PostgreSQL 18's binaries")
    timescaledb: str = setting("", "embedded size: folder of TimescaleDB, as `make services` fetches it; none: plain")
    valkey_bin: str = setting("", "embedded size: path of another Valkey or Redis server")
    public_url: str = setting(
        "", "where people reach it, such as https://cm.example: links, issuer of tokens; none: http://host:port"
    )
    identity_providers: str = setting("public", "`public`; `loopback`: by http on this machine too, for tests only")
    xmlsec1: str = setting("", "path of xmlsec1, which SAML needs; `up` finds it; docs/sso.md")
    mail_url: str = setting("", "smtp://user:password@host:587 or smtps://…; none: mail waits in `outbox`", secret=True)
    mail_from: str = setting("", "who mail comes from, such as cm@example.com; needed with MAIL_URL")
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    fail_point: str = setting("", "tests only: `step[:n[:kill]]`, the step at whose n-th pass the process kills itself")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the environment.

        Raises:
            Misconfigured: a value has the wrong type; the message names the variable.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            text = environ.get(PREFIX + field.name.upper())
            if text is not None:
                given[field.name] = _parsed(field.name, type(field.default), text)
        known = {PREFIX + field.name.upper() for field in fields(cls)}
        unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise Misconfigured(f"unknown setting {unknown[0]}; `python -m cloudmetrics up --help` lists them all")
        settings = cls(**given)
        settings._check()
        return settings

    def _check(self) -> None:
        for name, allowed in ONE_OF.items():
            if getattr(self, name) not in allowed:
                raise _unfit(name, f"must be one of {', '.join(allowed)}")
        for name, (least, most) in WITHIN.items():
            if not least <= getattr(self, name) <= most:
                raise _unfit(name, f"must be {least} to {most}, not {getattr(self, name)}")
        for part in self.trusted_proxies.split(","):
            try:
                ipaddress.ip_network(part.strip() or "::", strict=False)
            except ValueError:
                raise _unfit("trusted_proxies", f"has {part.strip()!r}, which is no address and no network") from None
        if self.public_url and not _is_origin(self.public_url):
            raise _unfit(
                "public_url", "must be http:// or https:// and a host, such as https://cm.example, without a path"
            )
        if self.mail_url:
            MailServer.parse(self.mail_url)
            check_sender(self.mail_from)

    @property
    def public_base(self) -> str:
        """What links to this instance begin with; no slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    def master_key_bytes(self) -> bytes:
        """The master key, 32 bytes.

        Raises:
            Misconfigured: it is missing or not 32 bytes of base64.
        """
        try:
            key = base64.b64decode(self.master_key, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise Misconfigured(f"{PREFIX}MASTER_KEY must be 32 bytes in base64 (openssl rand -base64 32)")
        return key

    def to_env(self) -> dict[str, str]:
        """The environment that gives a child process these settings."""
        return {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extra = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username)
    return is_whole and parts.scheme in ("http", "https") and bool(parts.hostname) and not any(extra)


def _unfit(name: str, what: str) -> Misconfigured:
    return Misconfigured(f"{PREFIX}{name.upper()} {what}")


def _parsed(name: str, kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise Misconfigured(f"{PREFIX}{name.upper()}={text!r} is not a {kind.__name__}") from None
