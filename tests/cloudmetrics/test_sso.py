"""`sso`, as typed, over a running instance."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.conftest import Instance
from tests.web.saml_documents import make_signer

pytestmark = pytest.mark.slow


def test_the_operator_connects_disables_and_deletes_a_provider(instance: Instance, tmp_path: Path) -> None:
    signer = make_signer(tmp_path / "idp", "")
    metadata = tmp_path / "metadata.xml"
    metadata.write_text(signer.metadata("https://idp.example/7", "https://idp.example/sso"))
    made = instance.cli("sso", "create", "--preset", "okta_saml", "--name", "Our Okta", "--metadata", str(metadata),
                        "--domain", "Example.com", "--role", "editor", "--json")  # fmt: skip
    (connection,) = json.loads(made.stdout)
    assert connection["provider"] == "https://idp.example/7" and connection["begins"].startswith(instance.url)
    offered = f"{instance.url}/auth/connections/demo"
    assert [way["id"] for way in httpx2.get(offered, timeout=10).json()["connections"]] == [connection["id"]]
    for action, names in (("disable", []), ("enable", ["Our Okta"])):
        instance.cli("sso", action, connection["id"])
        assert [way["name"] for way in httpx2.get(offered, timeout=10).json()["connections"]] == names
    assert connection["id"] in instance.cli("sso", "list").stdout
    instance.cli("sso", "delete", connection["id"])
    assert instance.cli("sso", "list").stdout.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "okta_saml", "--name", "x"], "needs the identity provider's metadata"),
        (["--preset", "oidc", "--name", "x", "--issuer", "http://10.0.0.1", "--client-id", "us"], "https://"),
        (["--preset", "google_workspace", "--name", "x", "--client-id", "us"], "which Workspace domains"),
        (["--preset", "oidc", "--name", "x", "--metadata", "/dev/null"], "takes oidc alone"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_remedy(
    instance: Instance, arguments: list[str], said: str
) -> None:
    done = instance.cli("sso", "create", *arguments, check=False)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert instance.cli("sso", "delete", str(uuid4()), check=False).returncode == 1
