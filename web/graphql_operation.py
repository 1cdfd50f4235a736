"""One operation, whichever way it came: prepared with its limits, executed within its bounds, its errors rendered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AsyncExitStack, aclosing
from inspect import isawaitable
from typing import Any

from graphql import ExecutionResult, GraphQLError, OperationType
from graphql.execution import Executor, create_source_event_stream, map_source_to_response_event

from core.errors import CloudMetricsError, InvalidRequest
from core.ratelimit import Allowance
from core.tenancy import PrincipalKind
from resolvers.context import Context
from resolvers.live_source import LiveSource
from schema.limits import MAX_COST
from schema.prepare import PREPARED, Prepared
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.graphql_request import GraphQLRequest
from web.heavy import HEAVY_COST
from web.live_reader import LiveReader
from web.selections import payload_of

EXECUTE_SECONDS = 10.0
# Whose tokens are in browsers: a person's, and those of share links.
BROWSER_KINDS = frozenset({PrincipalKind.PERSON, PrincipalKind.SHARE_LINK})


Opened = tuple[Executor[Any] | None, AsyncIterable[Any] | ExecutionResult]


class Operation:
    """An operation that may be executed."""

    def __init__(self, door: GraphQLDoor, prepared: Prepared, variables: dict[str, Any], context: Context) -> None:
        self._door = door
        self._prepared = prepared
        self._variables = variables
        self._context = context
        # The stream of a subscription that was opened, and is no live source.
        self._found: Opened | None = None

    @property
    def is_subscription(self) -> bool:
        return self._prepared.kind is OperationType.SUBSCRIPTION

    @property
    def is_query(self) -> bool:
        return self._prepared.kind is OperationType.QUERY

    async def result(self) -> dict[str, Any]:
        """The answer of a query or a mutation.

        Raises:
            TooMany: too many heavy ones of the tenant run.
            InvalidRequest: it took too long; its statements are cancelled.
        """
        async with AsyncExitStack() as places:
            if self._prepared.kind is OperationType.QUERY and self._prepared.cost >= HEAVY_COST:
                await places.enter_async_context(self._door.heavy.place(self._context.principal.tenant.id))
            try:
                async with asyncio.timeout(EXECUTE_SECONDS):
                    result = await self._door.schema.execute(self._prepared.text, **self._given())
            except TimeoutError:
                raise InvalidRequest(
                    f"The operation took more than {EXECUTE_SECONDS:.0f} s; ask for less.", code="TIMEOUT"
                ) from None
        cost = {"requested": self._prepared.cost, "maximum": MAX_COST}
        return {**self._payload(result), "extensions": {"cost": cost}}

    async def listen(self, reader: LiveReader) -> bool:
        """Gives the reader its place with a live stream, whose frames and end it is told by calls; False when this is
        no live stream. Same errors."""
        if not self.is_subscription:
            return False
        executor, found = await self._opened()
        if executor is None or not isinstance(found, LiveSource):
            self._found = executor, found
            return False
        selection = self._door.selections.of(self._prepared, self._variables, self._context, executor)
        try:
            await reader.listen(found, selection)
        except CloudMetricsError as error:
            self._found = None, ExecutionResult(None, [GraphQLError(str(error), original_error=error)])
            return False
        return True

    async def results(self) -> AsyncGenerator[dict[str, Any], None]:
        """Its answers: those of a subscription as they come, of anything else the one. Same errors."""
        if not self.is_subscription:
            yield await self.result()
            return
        executor, found = self._found or await self._opened()
        self._found = None
        if executor is None or isinstance(found, ExecutionResult):
            yield self._payload(found)
            return
        async with aclosing(map_source_to_response_event(executor, found)) as results:
            try:
                async for result in results:
                    yield self._payload(result)
            except Exception as error:
                yield self._payload(ExecutionResult(None, [GraphQLError(str(error), original_error=error)]))

    async def _opened(self) -> Opened:
        """The stream that the subscription's resolver gives, and what executes its events; or its refusal."""
        executor = Executor.build(
            self._door.schema._schema,
            self._prepared.document,
            context_value=self._context,
            raw_variable_values=self._variables,
            operation_name=self._prepared.operation_name,
            hide_suggestions=True,
        )
        if isinstance(executor, list):
            return None, ExecutionResult(None, executor)
        found = create_source_event_stream(executor)
        return executor, await found if isawaitable(found) else found

    def _payload(self, result: Any) -> dict[str, Any]:
        return payload_of(result, self._context.request_id)

    def _given(self) -> dict[str, Any]:
        return {
            "variable_values": self._variables,
            "operation_name": self._prepared.operation_name,
            "context_value": self._context,
            "operation_extensions": {PREPARED: self._prepared},
        }


async def prepare(
    door: GraphQLDoor, caller: Caller, asked: GraphQLRequest, allowance: Allowance | None, request_id: str
) -> Operation:
    """Checks what is asked, and takes its cost from the caller's budget, before anything runs.

    Raises:
        InvalidRequest: the document is unknown, not to be run for this caller, over a limit or invalid.
        TooMany: the budget of a share link is spent.
    """
    kind = caller.principal.kind
    text = door.trusted.text_of(asked.query, asked.hash, is_browser=kind in BROWSER_KINDS)
    prepared = door.documents.prepare(text, asked.operation_name, asked.variables)
    if prepared.introspects and kind is PrincipalKind.SHARE_LINK:
        raise InvalidRequest(
            "A share link may not ask for the schema; it is published at /schema.graphql.",
            code="INTROSPECTION_DISABLED",
        )
    await door.spend(caller, prepared.cost)
    return Operation(door, prepared, asked.variables, door.context(caller, allowance, request_id))
