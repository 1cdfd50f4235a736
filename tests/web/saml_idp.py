"""A SAML identity provider on this machine, which is pysaml2's own: `python tests/web/saml_idp.py PORT FOLDER XMLSEC1`.

FOLDER has its key. It signs in whoever it was last told to, for the service providers whose metadata it was given, and
answers as browsers expect: with a form that they post.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import Any

import uvicorn
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.authn_context import PASSWORD
from saml2.config import IdPConfig
from saml2.saml import NAME_FORMAT_URI, NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

# Told at each answer: what its settings say of them, pysaml2's provider does not read, and signs with SHA-1.
RSA_SHA256, SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmlenc#sha256"


class Provider:
    """Its whole state."""

    def __init__(self, base: str, folder: Path, xmlsec1: str) -> None:
        self.base = base
        self._folder = folder
        self._xmlsec1 = xmlsec1
        self._told: dict[str, Any] = {"subject": "ada-7", "identity": {"mail": "ada@example.com"}}

    async def control(self, request: Request) -> Response:
        self._told |= await request.json()
        return JSONResponse({})

    async def sso(self, request: Request) -> Response:
        """Signs in whoever asks."""
        server = Server(config=self._config())
        asked = server.parse_authn_request(request.query_params["SAMLRequest"], BINDING_HTTP_REDIRECT).message
        where = server.response_args(asked)
        answer = server.create_authn_response(
            self._told["identity"], where["in_response_to"], where["destination"], where["sp_entity_id"],
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=self._told["subject"]),
            authn={"class_ref": PASSWORD, "authn_auth": self.base},
            sign_assertion=True, sign_response=self._told.get("signs_response", False),
            sign_alg=RSA_SHA256, digest_alg=SHA256,
        )  # fmt: skip
        form = server.apply_binding(BINDING_HTTP_POST, str(answer), where["destination"],
                                    request.query_params.get("RelayState", ""), response=True)  # fmt: skip
        return HTMLResponse(form["data"])

    async def page(self, request: Request) -> Response:
        return HTMLResponse(escape(self.base))

    def _config(self) -> IdPConfig:
        endpoint = (f"{self.base}/sso", BINDING_HTTP_REDIRECT)
        service = {
            "endpoints": {"single_sign_on_service": [endpoint]},
            "policy": {"default": {"name_form": NAME_FORMAT_URI, "lifetime": {"minutes": 5}}},
        }
        config = IdPConfig().load(
            {
                "entityid": f"{self.base}/metadata",
                "service": {"idp": service},
                "key_file": str(self._folder / "key.pem"),
                "cert_file": str(self._folder / "cert.pem"),
                "metadata": {"inline": self._told.get("trusted", [])},
                "xmlsec_binary": self._xmlsec1,
            }
        )
        assert isinstance(config, IdPConfig)
        return config


def main() -> None:
    port = int(sys.argv[1])
    provider = Provider(f"http://127.0.0.1:{port}", Path(sys.argv[2]), sys.argv[3])
    app = Starlette(
        routes=[
            Route("/", provider.page),
            Route("/sso", provider.sso),
            Route("/control", provider.control, methods=["POST"]),
        ]
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
