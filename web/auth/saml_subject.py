"""Whom a SAML assertion vouches for: what of it is the subject, and what is said of that today. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from core.sign_in_connections import SignInConnection
from core.sign_in_rules import Preset, Vouched
from web.auth.saml_response import TRANSIENT, Said, refuse

_CLAIMS = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
_MICROSOFT = "http://schemas.microsoft.com/identity/claims/"
EMAIL_NAMES = (f"{_CLAIMS}emailaddress", "email", "mail", "urn:oid:0.9.2342.19200300.100.1.3", "Email")
NAME_NAMES = (f"{_MICROSOFT}displayname", "displayName", "name", "urn:oid:2.16.840.1.113730.3.1.241", "cn")
# A directory's user for ever, whatever its address becomes.
ENTRA_OBJECT, ENTRA_TENANT = f"{_MICROSOFT}objectidentifier", f"{_MICROSOFT}tenantid"
MAX_SUBJECT = 512


def vouched_by(said: Said, connection: SignInConnection) -> Vouched:
    """Who it is.

    Raises:
        InvalidRequest: 403 `saml_subject`: the subject is one that changes at each sign-in, or is not said.
    """
    config, attributes = connection.saml(), said.attributes
    if config.subject_attribute:
        subject = _one(attributes, config.subject_attribute)
    elif connection.preset is Preset.ENTRA_SAML:
        subject = f"{_one(attributes, ENTRA_TENANT)}/{_one(attributes, ENTRA_OBJECT)}"
    elif said.name_id_format == TRANSIENT:
        refuse("saml_subject", "has a NameID that changes at each sign-in; let the provider send a persistent one")
    else:
        subject = said.name_id
    if len(subject) > MAX_SUBJECT:
        refuse("saml_subject", f"has a subject longer than {MAX_SUBJECT} characters")
    email = _first(attributes, (config.email_attribute,) if config.email_attribute else EMAIL_NAMES)
    if email is None and "@" in said.name_id:
        email = said.name_id
    return Vouched(
        issuer=config.entity_id,
        subject=subject,
        email=email,
        # The provider is the tenant's own, and the tenant's administrator answers for what it says.
        is_email_verified=True,
        name=_first(attributes, (config.name_attribute,) if config.name_attribute else NAME_NAMES) or "",
        attributes=attributes,
    )


def _one(attributes: Mapping[str, tuple[str, ...]], name: str) -> str:
    values = set(attributes.get(name, ()))
    if len(values) != 1 or not (value := values.pop()) or not value.isprintable():
        refuse("saml_subject", f"needs the attribute {name} with one value, by which people are known")
    return value


def _first(attributes: Mapping[str, tuple[str, ...]], names: tuple[str, ...]) -> str | None:
    return next((value for name in names for value in attributes.get(name, ()) if value), None)
