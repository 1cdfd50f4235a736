"""What is selected of a frame, executed and encoded once for all who select the same."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutine
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from graphql.execution import Executor

from resolvers.context import Context
from schema.prepare import Prepared
from web.graphql_errors import field_errors

_json = msgspec.json.Encoder()
KEPT = 2


class Selection:
    """A document's selection with its variables, for callers who may see the same."""

    def __init__(self, executor: Executor[Any], request_id: str) -> None:
        self._executor = executor
        self._request_id = request_id
        # The newest frame, and some before it: a stream's frame comes to all of its readers before the next does, and
        # between two may be the snapshot of one who joins.
        self._frame: object = None
        self._data = b""
        self._before: list[tuple[object, bytes]] = []

    def encoded(self, frame: object) -> bytes:
        """The payload of a `next` message for a frame, and the brace that ends the message.

        Raises:
            TypeError: a field of the frame has to be waited for. A frame has all that it shows.
        """
        if frame is self._frame:
            return self._data
        for known, data in self._before:
            if known is frame:
                return data
        result = self._executor.build_per_event_executor(frame).execute_operation(False)
        if not isinstance(result, ExecutionResult):
            if iscoroutine(result):
                result.close()
            raise TypeError("A field of a live frame has to be waited for.")
        data = self._payload(result)
        self._before = [(self._frame, self._data), *self._before[: KEPT - 1]]
        self._frame, self._data = frame, data
        return data

    def encoded_error(self, error: Exception) -> bytes:
        """The same for an error that ends the stream."""
        return self._payload(ExecutionResult(None, [GraphQLError(str(error), original_error=error)]))

    def _payload(self, result: ExecutionResult) -> bytes:
        return _json.encode(payload_of(result, self._request_id)) + b"}"


class Selections:
    """The selections that somebody reads, of one process."""

    def __init__(self) -> None:
        self._read: WeakValueDictionary[tuple[object, ...], Selection] = WeakValueDictionary()

    def of(self, prepared: Prepared, variables: dict[str, Any], context: Context, executor: Executor[Any]) -> Selection:
        """The selection of an operation; `executor` is what executes it when it is the first of its kind. Whom its
        frames are of does not matter: a frame holds what it shows, and who may have it was asked at its source."""
        used = used_below_root(prepared.document, prepared.operation_name)
        given = _json.encode({name: variables[name] for name in sorted(used & variables.keys())})
        principal = context.principal
        scope = principal.tenant.id, principal.kind, principal.permissions
        key = prepared.text, prepared.operation_name, given, scope
        found = self._read.get(key)
        if found is None:
            found = self._read[key] = Selection(executor, context.request_id)
        return found


def payload_of(result: ExecutionResult, request_id: str) -> dict[str, Any]:
    """What is told of an execution."""
    payload: dict[str, Any] = {"data": result.data}
    if result.errors:
        payload["errors"] = field_errors(result.errors, request_id)
    return payload


def used_below_root(document: DocumentNode, operation_name: str | None) -> set[str]:
    """Names of the variables that say what of a frame is selected; the others only say which stream it is of."""
    found: set[str] = set()
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            found.update(_variables(definition))
        elif isinstance(definition, OperationDefinitionNode) and _is_named(definition, operation_name):
            found.update(_variables_of_root(definition.selection_set))
    return found


def _is_named(operation: OperationDefinitionNode, name: str | None) -> bool:
    return name is None or (operation.name is not None and operation.name.value == name)


def _variables_of_root(selections: SelectionSetNode) -> Iterator[str]:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            for part in (*(node.directives or ()), node.selection_set):
                yield from _variables(part)
        else:
            yield from _variables(node)


def _variables(node: Node | None) -> Iterator[str]:
    todo: list[Any] = [node]
    while todo:
        found = todo.pop()
        if isinstance(found, VariableNode):
            yield found.name.value
        elif isinstance(found, Node):
            todo += [getattr(found, key, None) for key in found.keys]
        elif isinstance(found, tuple | list):
            todo += found
