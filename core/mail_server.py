"""The address of a mail server: `smtp://user:password@host:587` or `smtps://…:465`. Pure; no I/O."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from urllib.parse import parse_qsl, unquote, urlsplit

from core.errors import Misconfigured

# Submission with STARTTLS (RFC 6409, 3.1), and within TLS from the start (RFC 8314, 3.3).
PORTS = {"smtp": 587, "smtps": 465}
FORM = "must be smtp://user:password@host:port, or smtps://…; smtp://…?starttls=no for a relay without TLS"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail goes. `starttls`: True: or not at all; None: where the server offers it; False: never."""

    host: str
    port: int
    username: str | None
    password: str | None
    is_tls: bool
    starttls: bool | None

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """Reads a URL.

        Raises:
            Misconfigured: it is not of the form. The message does not hold the URL, whose password nobody should see.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS[parts.scheme]
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        except (ValueError, KeyError):
            raise Misconfigured(f"CLOUDMETRICS_MAIL_URL {FORM}") from None
        starttls = options.pop("starttls", "yes")
        if not parts.hostname or parts.path not in ("", "/") or options or starttls not in ("yes", "no"):
            raise Misconfigured(f"CLOUDMETRICS_MAIL_URL {FORM}")
        is_tls = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            is_tls=is_tls,
            starttls=False if is_tls or starttls == "no" else _wanted(parts.hostname),
        )


def check_sender(text: str) -> str:
    """The address part of a sender such as `CloudMetrics <metrics@example.com>`.

    Raises:
        Misconfigured: it has none.
    """
    name, address = parseaddr(text)
    local, _, domain = address.rpartition("@")
    try:
        is_good = (
            bool(local and domain and Address(name, addr_spec=address)) and text.isprintable() and address.isascii()
        )
    except (ValueError, MessageError):
        is_good = False
    if not is_good:
        raise Misconfigured(
            "CLOUDMETRICS_MAIL_FROM must be an address, or a name and <address>, such as cm@example.com"
        )
    return address


def _wanted(host: str) -> bool | None:
    """Whether a server must offer STARTTLS: what does not leave the machine may go in the clear."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return None if is_loopback else True
