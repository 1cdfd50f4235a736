"""What links in messages lead to: an invitation to accept, a password to set. Each is a page with a form, and the same
over JSON. The token in the body is all the authority there is: no cookie is read, so no other site can use one."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core import invitations, password_resets
from core.acceptance import Accepted, Answer, OpenInvitation, accept_invitation, find_invitation
from core.errors import BadInput, CloudMetricsError, InvalidRequest, TooMany, Unauthenticated
from core.networks import network_of
from core.password_resets import ask_reset, find_reset, reset_password
from core.people import Person, find_person
from web.auth.pages import Field, Form, asked_for, told
from web.auth.requests import MAX_BODY_BYTES, NO_STORE, asked
from web.auth.strangers import STRANGER_REQUESTS_PER_MINUTE
from web.errors import request_id_of, retry_headers, status_of
from web.ingest.body import read_body
from web.peer import client_address
from web.services import Services

ACCEPT = "/auth/invitations/accept"
FORGOT = "/auth/password/forgot"
RESET = "/auth/password/reset"
FORGOTTEN = (FORGOT, "Forgotten password")
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 10
# The same whether the address is somebody's or not.
ON_ITS_WAY = "If that address has an account, a message with a link is on its way; the link is good for an hour."

T = TypeVar("T")


class _Acceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    name: str = ""
    password: str = ""


class _Forgotten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: str


class _Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    password: str


class LinkDoor:
    """The endpoints; one an application."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def show_invitation(self, request: Request) -> Response:
        """The page of an invitation; looking at it, as mail filters do, changes nothing."""
        await self._look(request)
        token = request.query_params.get("token", "")
        try:
            return _invitation_page(await find_invitation(self._services.database, token), token)
        except BadInput as refusal:
            return _dead_link(refusal)

    async def accept(self, request: Request) -> Response:
        """Makes a member."""
        await self._attempt(request)
        given, is_form = await _given(request, _Acceptance)
        try:
            accepted = await self._accept(request, given)
        except CloudMetricsError as refusal:
            if not is_form or status_of(refusal) >= 500:
                raise
            return await self._asked_again(given, refusal)
        tenant = {"slug": accepted.tenant.slug, "name": accepted.tenant.name, "role": accepted.role.value}
        if not is_form:
            return JSONResponse({"tenant": tenant, "email": accepted.email}, headers=NO_STORE)
        return told(
            f"Welcome to {accepted.tenant.name}",
            f"You are a member now, as {accepted.role.value}. Sign in as {accepted.email} with your password.",
        )

    async def show_forgotten(self, request: Request) -> Response:
        """The page that asks whose password it is."""
        return asked_for("Forgotten password", _FORGOTTEN_FORM, "We send a link by which you choose another one.")

    async def forgot(self, request: Request) -> Response:
        """Sends a link, where there is somebody to send it to; always answers the same."""
        await self._attempt(request)
        given, is_form = await _given(request, _Forgotten)
        try:
            address = client_address(request, self._services.settings)
            await ask_reset(self._services.database, self._services.settings, given.email, address)
        except BadInput as refusal:
            if not is_form:
                raise
            paragraph = "We send a link by which you choose another one."
            return asked_for("Forgotten password", _FORGOTTEN_FORM, paragraph, refusal=refusal, status=400)
        if is_form:
            return told("Look into your mail", ON_ITS_WAY, status=202)
        return JSONResponse({"message": ON_ITS_WAY}, 202, NO_STORE)

    async def show_reset(self, request: Request) -> Response:
        """The page of a reset; looking at it changes nothing."""
        await self._look(request)
        token = request.query_params.get("token", "")
        try:
            reset = await find_reset(self._services.database, token)
        except BadInput as refusal:
            return _dead_link(refusal, FORGOTTEN)
        return asked_for("Choose a password", _reset_form(token), f"For {reset.email}.")

    async def reset(self, request: Request) -> Response:
        """Sets a password and ends the person's sessions."""
        await self._attempt(request)
        given, is_form = await _given(request, _Reset)
        services = self._services
        try:
            await reset_password(
                services.database, services.settings, services.passwords, given.token, given.password,
                request_id_of(request.scope),
            )  # fmt: skip
        except BadInput as refusal:
            if not is_form:
                raise
            if refusal.code == "invalid_link":
                return _dead_link(refusal, FORGOTTEN)
            return asked_for("Choose a password", _reset_form(given.token), refusal=refusal, status=400)
        if is_form:
            return told("Your password is changed", "All sessions have ended; sign in with the new one.")
        return Response(status_code=204, headers=NO_STORE)

    async def _accept(self, request: Request, given: _Acceptance) -> Accepted:
        services = self._services
        signed_in = await self._signed_in(request)
        if signed_in is None:
            # A password is tested here as it is at sign-in, so attempts are counted with those.
            invitation = await find_invitation(services.database, given.token)
            await services.attempts.on_account(invitation.email, client_address(request, services.settings), ())
        answer = Answer(token=given.token, name=given.name, password=given.password, signed_in=signed_in)
        return await accept_invitation(services.database, services.passwords, answer, request_id_of(request.scope))

    async def _signed_in(self, request: Request) -> Person | None:
        """Whose access token comes along; None: none does.

        Raises:
            Unauthenticated: one that is not good, or a key, which is nobody.
        """
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            caller = await self._services.sessions.by_token(token.strip())
            # Who is vouched for in one tenant alone is nobody to another one.
            if caller.principal.person_id is not None and not caller.principal.is_locked:
                return await find_person(self._services.database, caller.principal.person_id)
        raise Unauthenticated("Send Authorization: Bearer and an access token of a person.", code="invalid_token")

    async def _asked_again(self, given: _Acceptance, refusal: CloudMetricsError) -> Response:
        """The form once more, with why."""
        try:
            invitation = await find_invitation(self._services.database, given.token)
        except BadInput as dead:
            return _dead_link(dead)
        page = _invitation_page(invitation, given.token, given.name, refusal)
        page.headers.update(retry_headers(refusal))
        return page

    async def _attempt(self, request: Request) -> None:
        """Counts what may cost a hash or a message. Raises TooMany."""
        address = client_address(request, self._services.settings)
        request.state.headers |= (await self._services.attempts.from_address(address)).headers()

    async def _look(self, request: Request) -> None:
        """Counts a look at a page, by address. Raises TooMany."""
        network = network_of(client_address(request, self._services.settings))
        allowance = await self._services.limiter.take(f"address:{network}", STRANGER_REQUESTS_PER_MINUTE)
        request.state.headers |= allowance.headers()
        if not allowance.is_allowed:
            raise TooMany("Too many requests from this address.", retry_after=allowance.retry_after)


_FORGOTTEN_FORM = Form(FORGOT, "Send the link", [Field("email", "E-mail", "email", "username")])


def _invitation_page(
    invitation: OpenInvitation, token: str, name: str = "", refusal: CloudMetricsError | None = None
) -> Response:
    fields = [
        Field("name", "Your name", "text", "name", "Not needed if you have an account with this address.", name),
        Field(
            "password",
            "Password",
            "password",
            "current-password",
            "If you have an account with this address, its password. If not, the one you choose now: 12 characters or "
            "more.",
        ),
    ]
    return asked_for(
        f"Join {invitation.tenant.name}",
        Form(ACCEPT, "Accept the invitation", fields, [("token", token)], FORGOTTEN),
        f"{invitation.email} is invited as {invitation.role.value}.",
        refusal=refusal,
        status=status_of(refusal) if refusal else 200,
    )


def _reset_form(token: str) -> Form:
    field = Field("password", "New password", "password", "new-password", "12 characters or more; four words do well.")
    return Form(RESET, "Set the password", [field], [("token", token)])


def _dead_link(refusal: CloudMetricsError, beside: tuple[str, str] | None = None) -> Response:
    return told("This link is not good", refusal.message, beside=beside, status=400)


async def _given(request: Request, shape: type[T]) -> tuple[T, bool]:
    """What was sent, and whether by a form.

    Raises:
        InvalidRequest: as `web.auth.requests.asked`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return await asked(request, shape), False
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
        return msgspec.convert(dict(pairs), shape), True
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidRequest(
            f"The form is not what is asked for here: {str(error)[:200]}.", code="invalid_body"
        ) from None


INVITATION_PAGE, RESET_PAGE = invitations.PATH, password_resets.PATH
