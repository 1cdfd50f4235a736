"""What a tenant's administrator may say of an identity provider, and what follows for somebody whom it vouches for:
which e-mail domains, which role. Pure; no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from core.errors import BadInput, PermissionDenied
from core.permissions import Role

MAX_DOMAINS = 50
MAX_RULES = 50
MAX_RULE_TEXT = 256
# Of an attribute that a provider sends: what is beyond is not looked at.
MAX_VALUES = 1_000
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


class ConnectionKind(StrEnum):
    """The protocol that an identity provider speaks."""

    OIDC = "oidc"
    SAML = "saml"


class Preset(StrEnum):
    """What is known of a provider beyond its protocol."""

    GOOGLE_WORKSPACE = "google_workspace"
    ENTRA_OIDC = "entra_oidc"
    OIDC = "oidc"
    OKTA_SAML = "okta_saml"
    ENTRA_SAML = "entra_saml"
    SAML = "saml"

    @property
    def kind(self) -> ConnectionKind:
        return ConnectionKind.SAML if self.value.endswith("saml") else ConnectionKind.OIDC


class RoleRule(msgspec.Struct, frozen=True):
    """Whoever has this value of this attribute (a claim, for OpenID) has this role."""

    attribute: str
    value: str
    role: Role


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom an identity provider vouches for. `subject` is who, for ever; all else is what is said of it today."""

    issuer: str
    subject: str
    email: str | None
    is_email_verified: bool
    name: str
    attributes: Mapping[str, Sequence[str]]


def checked_domains(domains: Sequence[str]) -> tuple[str, ...]:
    """E-mail domains in lower case, each once.

    Raises:
        BadInput: too many, or one that is no domain.
    """
    found = tuple(dict.fromkeys(domain.strip().lower() for domain in domains))
    if len(found) > MAX_DOMAINS:
        raise BadInput(f"At most {MAX_DOMAINS} domains.", field="allowedDomains")
    for domain in found:
        if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
            raise BadInput(f"{domain[:100]!r} is no domain such as example.com.", field="allowedDomains")
    return found


def checked_role(role: Role, field: str) -> Role:
    """A role that a provider may give.

    Raises:
        BadInput: owner, which only an owner gives.
    """
    if role is Role.OWNER:
        raise BadInput("No identity provider makes owners; choose admin, and let an owner make owners.", field=field)
    return role


def checked_rules(rules: Sequence[RoleRule]) -> tuple[RoleRule, ...]:
    """Role rules.

    Raises:
        BadInput: too many, one of them empty or too long, or one that would make owners.
    """
    if len(rules) > MAX_RULES:
        raise BadInput(f"At most {MAX_RULES} rules.", field="roleRules")
    for rule in rules:
        checked_role(rule.role, "roleRules")
        if not all(1 <= len(text) <= MAX_RULE_TEXT and text.isprintable() for text in (rule.attribute, rule.value)):
            raise BadInput(
                f"A rule's attribute and value have 1 to {MAX_RULE_TEXT} printable characters.", field="roleRules"
            )
    return tuple(rules)


def role_of(vouched: Vouched, rules: Sequence[RoleRule], default: Role) -> Role:
    """The highest role that a rule gives; the default where none does."""
    given = [rule.role for rule in rules if rule.value in vouched.attributes.get(rule.attribute, ())[:MAX_VALUES]]
    return max((role for role in given if role is not Role.OWNER), key=lambda role: role.rank, default=default)


def admit(vouched: Vouched, allowed_domains: Sequence[str]) -> None:
    """Refuses an e-mail of another domain, or one that the provider has not verified.

    Raises:
        PermissionDenied: `domain_not_allowed`.
    """
    if not allowed_domains:
        return
    domain = (vouched.email or "").lower().rpartition("@")[2]
    if not vouched.is_email_verified or domain not in allowed_domains:
        raise PermissionDenied(
            "This tenant takes only verified e-mail addresses of its own domains; sign in with your work account.",
            code="domain_not_allowed",
        )
