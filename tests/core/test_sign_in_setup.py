"""What an administrator asks of a connection: providers that would let everybody in are refused before any is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import sign_in_setup
from core.errors import BadInput
from core.outbound import PUBLIC
from core.settings import Settings
from core.sign_in_connections import OidcConfig, SamlConfig
from core.sign_in_rules import Preset
from core.sign_in_setup import ConnectionAsked, OidcAsked, SamlAsked, config_of
from tests.web.saml_documents import make_signer

CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
DIRECTORY = "6f2c2a57-51f5-4a2e-8d0b-0a5f6f5a7c11"
SETTINGS = Settings(identity_providers=PUBLIC)


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The providers of the world, which no test asks."""

    async def discover(issuer: str, reach: str) -> None:
        return None

    monkeypatch.setattr(sign_in_setup, "discover", discover)


async def asked_for(preset: Preset, issuer: str) -> OidcConfig | SamlConfig:
    return await config_of(SETTINGS, preset, ConnectionAsked(oidc=OidcAsked(issuer, "us", "secret")), None)


@pytest.mark.parametrize(
    ("preset", "issuer"),
    [
        (Preset.OIDC, "https://accounts.google.com"),
        (Preset.OIDC, "https://Accounts.Google.com/"),
        (Preset.OIDC, f"https://login.microsoftonline.com/{CONSUMERS}/v2.0"),
        (Preset.OIDC, f"https://login.microsoftonline.com/{CONSUMERS.upper()}/v2.0"),
        (Preset.OIDC, "https://login.microsoftonline.com/common/v2.0"),
        (Preset.OIDC, f"https://sts.windows.net/{CONSUMERS}/"),
        (Preset.OIDC, "https://login.live.com"),
        (Preset.ENTRA_OIDC, f"https://login.microsoftonline.com/{CONSUMERS}/v2.0"),
        (Preset.ENTRA_OIDC, "https://login.microsoftonline.com/organizations/v2.0"),
    ],
)
async def test_a_provider_at_which_all_the_world_has_accounts_is_refused(preset: Preset, issuer: str) -> None:
    with pytest.raises(BadInput) as refusal:
        await asked_for(preset, issuer)
    assert refusal.value.field == "issuer"


@pytest.mark.parametrize(
    ("preset", "issuer"),
    [
        (Preset.OIDC, f"https://login.microsoftonline.com/{DIRECTORY}/v2.0"),
        (Preset.ENTRA_OIDC, f"https://login.microsoftonline.com/{DIRECTORY}/v2.0"),
        (Preset.OIDC, "https://login.example.com/common/v2.0"),
        (Preset.GOOGLE_WORKSPACE, "https://accounts.google.com"),
    ],
)
async def test_a_provider_of_ones_own_people_is_taken(preset: Preset, issuer: str) -> None:
    assert await asked_for(preset, issuer) == OidcConfig(issuer, "us")


@pytest.mark.parametrize(
    ("entity", "is_taken"),
    [(CONSUMERS, False), (DIRECTORY, True)],
)
@pytest.mark.parametrize("preset", [Preset.SAML, Preset.ENTRA_SAML])
async def test_microsofts_own_accounts_are_refused_by_saml_too(
    tmp_path: Path, preset: Preset, entity: str, is_taken: bool
) -> None:
    signer = make_signer(tmp_path / "key", "")
    metadata = signer.metadata(
        f"https://sts.windows.net/{entity}/", f"https://login.microsoftonline.com/{entity}/saml2"
    )
    asked = ConnectionAsked(saml=SamlAsked(metadata, None, None, None, None))
    if is_taken:
        await config_of(SETTINGS, preset, asked, None)
        return
    with pytest.raises(BadInput) as refusal:
        await config_of(SETTINGS, preset, asked, None)
    assert refusal.value.field == "metadataXml" and "directory" in refusal.value.message
