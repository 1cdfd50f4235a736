"""The ASGI application: doors put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import CloudMetricsError, InvalidRequest, NotFound
from core.exports import PATH
from core.settings import Settings
from schema.build import schema
from web.auth.links import ACCEPT, FORGOT, INVITATION_PAGE, RESET, RESET_PAGE, LinkDoor
from web.auth.oidc_door import OidcDoor
from web.auth.provider_sign_in import ProviderSignIn
from web.auth.saml_door import SamlDoor
from web.auth.sign_in import SignInDoor
from web.errors import RequestLayer, error_body, request_id_of, retry_headers, status_of
from web.exports import ExportDownloads
from web.graphql_door import GraphQLDoor
from web.graphql_http import GraphQLHttp
from web.graphql_sse import GraphQLStreams
from web.graphql_ws import GraphQLSockets
from web.health import Health
from web.ingest.rest import IngestDoor
from web.ingest.socket import IngestSockets
from web.series_sse import STREAM, SeriesStreams
from web.services import Services, open_services
from web.socket_protocol import INGEST_PATH

DOORS = {
    "graphql": "/graphql",
    "graphql_stream": "/graphql/stream",
    "series_stream": STREAM,
    "events": "/v1/events",
    "events_ws": INGEST_PATH,
    "login": "/auth/login",
    "keys": "/.well-known/jwks.json",
    "schema": "/schema.graphql",
    "health": "/health/ready",
}


def routes_of(services: Services, ingest: IngestDoor) -> list[BaseRoute]:
    """Every path there is."""
    door = GraphQLDoor(services, ingest.ingest)
    graphql, sockets, health = GraphQLHttp(door), GraphQLSockets(door), Health(services)
    by_provider = ProviderSignIn(services)
    oidc, saml = OidcDoor(by_provider), SamlDoor(by_provider, services.saml)
    sign_in, links = SignInDoor(services), LinkDoor(services)
    sdl = schema.as_str() + "\n"

    async def show_schema(request: Request) -> Response:
        return PlainTextResponse(sdl)

    async def show_doors(request: Request) -> Response:
        return JSONResponse({"name": "CloudMetrics", **DOORS})

    return [
        Route("/graphql", graphql.post, methods=["POST"]),
        Route("/graphql", graphql.options, methods=["OPTIONS"]),
        Route("/graphql", graphql.refuse, methods=["GET", "PUT", "DELETE", "PATCH"]),
        WebSocketRoute("/graphql", sockets.connect),
        *GraphQLStreams(door, graphql).routes(DOORS["graphql_stream"]),
        *SeriesStreams(door, services.tickets).routes(),
        Route("/v1/events", ingest.post, methods=["POST"]),
        Route("/v1/events", ingest.options, methods=["OPTIONS"]),
        WebSocketRoute(INGEST_PATH, IngestSockets(services, ingest.ingest).connect),
        Route(PATH + "{token}", ExportDownloads(services).get, methods=["GET", "HEAD"]),
        Route("/auth/connections/{tenant}", saml.ways),
        Route("/auth/oauth/{connection}/start", oidc.start),
        Route("/auth/oauth/{connection}/callback", oidc.callback),
        Route("/auth/saml/{tenant}/metadata", saml.metadata),
        Route("/auth/saml/{tenant}/login", saml.login),
        Route("/auth/saml/{tenant}/acs", saml.acs, methods=["POST"]),
        Route("/auth/saml/{tenant}/finish", saml.finish),
        Route("/auth/login", sign_in.login, methods=["POST"]),
        Route("/auth/refresh", sign_in.refresh, methods=["POST"]),
        Route("/auth/logout", sign_in.logout, methods=["POST"]),
        Route(INVITATION_PAGE, links.show_invitation, methods=["GET"]),
        Route(ACCEPT, links.accept, methods=["POST"]),
        Route(RESET_PAGE, links.show_reset, methods=["GET"]),
        Route(RESET, links.reset, methods=["POST"]),
        Route(FORGOT, links.show_forgotten, methods=["GET"]),
        Route(FORGOT, links.forgot, methods=["POST"]),
        Route("/.well-known/jwks.json", sign_in.published_keys),
        Route("/health/live", health.live),
        Route("/health/ready", health.ready),
        Route("/schema.graphql", show_schema),
        Route("/", show_doors),
    ]


def create_app(settings: Settings) -> ASGIApp:
    """The application; it opens its clients when it starts and closes them when it stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(settings))
            ingest = IngestDoor(services)
            app.router.routes.extend(routes_of(services, ingest))
            layer.shortcuts["POST", DOORS["events"]] = straight_to(ingest.post)
            yield

    app = Starlette(
        lifespan=lifespan,
        exception_handlers={CloudMetricsError: _render, HTTPException: _render_http, Exception: _render},
    )
    # A redirect would send a request, and its key, to whatever host its header names.
    app.router.redirect_slashes = False
    layer = RequestLayer(app)
    return layer


def straight_to(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """The endpoint as the framework calls it, without the way through middleware and routes, which costs a tenth of a
    small request. What is no error of ours leaves for the layer around it, as it does there."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except CloudMetricsError as refusal:
            response = await _render(request, refusal)
        await response(scope, receive, send)

    return answer


async def _render(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, CloudMetricsError) else CloudMetricsError()
    body = error_body(known, request_id_of(request.scope))
    return JSONResponse(body, status_of(known), retry_headers(known))


async def _render_http(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    phrase = HTTPStatus(status).phrase
    headers = dict(getattr(error, "headers", None) or {})
    if status == 404:
        known: CloudMetricsError = NotFound(f"There is nothing at {request.url.path[:200]}; / lists the doors.")
    elif status == 405:
        message = f"{request.method} is not taken here; send {headers.get('Allow') or headers.get('allow', 'another')}."
        known = InvalidRequest(message, code="method_not_allowed", status=status)
    else:
        known = InvalidRequest(f"{phrase}.", code=phrase.lower().replace(" ", "_"), status=status)
    return JSONResponse(error_body(known, request_id_of(request.scope)), status, headers)
