"""The cookie that holds a browser's refresh token: no script reads it, no other site sends it, no path but sign-in's
gets it."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from core.settings import Settings

PATH = "/auth"
NAME = "cm_refresh"


def put_refresh_token(response: Response, settings: Settings, token: str, expires_at: datetime) -> None:
    """Sets it, for as long as the session may live."""
    response.set_cookie(
        _name(settings),
        token,
        max_age=max(0, int((expires_at - datetime.now(UTC)).total_seconds())),
        path=PATH,
        secure=_is_secure(settings),
        httponly=True,
        samesite="strict",
    )


def dropped(settings: Settings) -> str:
    """The header that takes it back."""
    secure = "; Secure" if _is_secure(settings) else ""
    return f"{_name(settings)}=; Path={PATH}; Max-Age=0; HttpOnly; SameSite=strict{secure}"


def refresh_token_of(request: Request, settings: Settings) -> str:
    """What the browser sent; empty where it sent none."""
    return request.cookies.get(_name(settings), "")


def _is_secure(settings: Settings) -> bool:
    return settings.public_base.startswith("https://")


def _name(settings: Settings) -> str:
    # The prefix: a browser takes it over https alone, from no page that was sent in the clear (RFC 6265bis, 4.1.3.1).
    return f"__Secure-{NAME}" if _is_secure(settings) else NAME
