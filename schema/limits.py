"""Limits of a GraphQL document, before validation and execution, in one memoised pass.

Each fragment is measured once and its facts multiply through its spreads, so a document of n nodes takes n steps:
limiters that expand fragments take exponential time on doubling ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

from core.errors import InvalidRequest
from schema.costs import Costs

MAX_DEPTH = 8
MAX_INTROSPECTION_DEPTH = 20
# Of fields and inline fragments together: nothing that any other limit allows comes near.
MAX_NESTING = 32
MAX_ALIASES = 15
MAX_DIRECTIVES = 50
MAX_TOKENS = 1000
MAX_LENGTH = 64 * 1024
MAX_COST = 5000
MAX_FRAGMENTS = 20
MAX_SPREADS = 50
MAX_OPERATIONS = 10
# Validation compares every two selections of one name in one place, and all below them: 94 ms of graphql-core for 980.
MAX_REPEATS = 80
MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_INPUT_DEPTH = 16
MAX_INPUT_LIST = 100
MAX_INPUT_NODES = 10_000

# Lists that are as long as the answer: an array of points in JSON is cheap, typed points are not.
POINTS = {"timestamps": 100, "values": 100, "rows": 10}


class LimitCode(StrEnum):
    """Which limit a document is over."""

    DEPTH = "DEPTH_LIMIT"
    ALIASES = "ALIAS_LIMIT"
    DIRECTIVES = "DIRECTIVE_LIMIT"
    TOKENS = "TOKEN_LIMIT"
    COST = "COMPLEXITY_LIMIT"
    FRAGMENTS = "FRAGMENT_LIMIT"
    OPERATIONS = "OPERATION_LIMIT"
    PAGE = "PAGE_SIZE"
    INPUT = "INPUT_LIMIT"
    LENGTH = "LENGTH_LIMIT"
    REPEATS = "REPEAT_LIMIT"


class LimitExceeded(InvalidRequest):
    """The document is over a limit."""


@dataclass(slots=True)
class Facts:
    """What a selection set amounts to. `depth` counts fields on the longest way down; `introspects`: it asks for the
    schema itself, which the name of an object's type is not; `names`: how often each name of the answer is selected,
    anywhere below, in fragments as often as they are spread."""

    depth: int = 0
    introspection_depth: int = 0
    aliases: int = 0
    directives: int = 0
    cost: int = 0
    introspects: bool = False
    names: Counter[str] = field(default_factory=Counter)
    # Whether variables say how often something is executed: with others the operation amounts to something else.
    varies: bool = False

    def add(self, other: Facts, *, times: int = 1) -> None:
        self.depth = max(self.depth, other.depth)
        self.introspection_depth = max(self.introspection_depth, other.introspection_depth)
        self.aliases += other.aliases
        self.directives += other.directives
        self.introspects = self.introspects or other.introspects
        self.names.update(other.names)
        # Saturates: a cost needs no more digits than the limit has.
        self.cost = min(self.cost + other.cost * times, MAX_COST * 100)


@dataclass(slots=True)
class _Pass:
    """One measuring of one document."""

    fragments: dict[str, FragmentDefinitionNode]
    variables: Mapping[str, object]
    costs: Costs
    known: dict[str, Facts] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    varies: bool = False


def check_document(
    document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, object], costs: Costs
) -> Facts:
    """What an operation amounts to, its cost among it.

    Raises:
        LimitExceeded: names the limit, what was found and the remedy.
    """
    fragments = [d for d in document.definitions if isinstance(d, FragmentDefinitionNode)]
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    _limit(LimitCode.FRAGMENTS, "fragments", len(fragments), MAX_FRAGMENTS)
    _limit(LimitCode.OPERATIONS, "operations", len(operations), MAX_OPERATIONS)
    _limit(LimitCode.FRAGMENTS, "fragment spreads", _spreads(document), MAX_SPREADS)
    state = _Pass({f.name.value: f for f in fragments}, variables, costs)
    facts = _measure(operation.selection_set, state, 1)
    facts.directives += len(operation.directives or ())
    _limit(LimitCode.DEPTH, "levels of fields", facts.depth, MAX_DEPTH)
    _limit(LimitCode.DEPTH, "levels of introspection", facts.introspection_depth, MAX_INTROSPECTION_DEPTH)
    _limit(LimitCode.ALIASES, "aliases", facts.aliases, MAX_ALIASES)
    _limit(LimitCode.DIRECTIVES, "directives", facts.directives, MAX_DIRECTIVES)
    _limit(LimitCode.COST, "points of cost", facts.cost, MAX_COST)
    facts.varies = state.varies
    most = max(facts.names.values(), default=0)
    _limit(LimitCode.REPEATS, "selections of one name", most, MAX_REPEATS)
    return facts


def check_variables(variables: Mapping[str, object]) -> None:
    """Bounds on what variables hold, without recursion.

    Raises:
        LimitExceeded: too deep, a list too long, or too many values in all.
    """
    waiting: list[tuple[object, int]] = [(variables, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if isinstance(value, (Mapping, list)):
            _limit(LimitCode.INPUT, "levels in variables", depth, MAX_INPUT_DEPTH)
            if isinstance(value, list):
                _limit(LimitCode.INPUT, "items in a list of variables", len(value), MAX_INPUT_LIST)
            waiting.extend((v, depth + 1) for v in (value.values() if isinstance(value, Mapping) else value))
        _limit(LimitCode.INPUT, "values in variables", seen, MAX_INPUT_NODES)


def _measure(selections: SelectionSetNode | None, state: _Pass, depth: int) -> Facts:
    """Facts of a selection set `depth` levels down, inline fragments counted as levels."""
    facts = Facts()
    if selections is None:
        return facts
    # Refused rather than passed over: what is not measured would be executed.
    _limit(LimitCode.DEPTH, "levels of selections", depth, MAX_NESTING)
    for selection in selections.selections:
        facts.directives += len(selection.directives or ())
        if isinstance(selection, FieldNode):
            _add_field(facts, selection, state, depth)
        elif isinstance(selection, InlineFragmentNode):
            facts.add(_measure(selection.selection_set, state, depth + 1))
        elif isinstance(selection, FragmentSpreadNode):
            facts.add(_fragment(selection.name.value, state))
    return facts


def _add_field(facts: Facts, node: FieldNode, state: _Pass, depth: int) -> None:
    name = node.name.value
    facts.aliases += node.alias is not None
    facts.names[node.alias.value if node.alias else name] += 1
    inner = _measure(node.selection_set, state, depth + 1)
    if name.startswith("__"):
        facts.introspection_depth = max(facts.introspection_depth, 1 + max(inner.depth, inner.introspection_depth))
        asks = inner.introspects or name != "__typename"
        facts.add(
            Facts(aliases=inner.aliases, directives=inner.directives, cost=1, introspects=asks, names=inner.names)
        )
        return
    below = Facts(
        inner.depth + 1,
        inner.introspection_depth,
        inner.aliases,
        inner.directives,
        introspects=inner.introspects,
        names=inner.names,
    )
    facts.add(below)
    own = state.costs.weights.get(name, 1 if node.selection_set else POINTS.get(name, 0))
    facts.add(Facts(cost=own))
    facts.add(Facts(cost=inner.cost), times=_times(node, state))


def _fragment(name: str, state: _Pass) -> Facts:
    """A fragment's facts, measured once; one that is missing or spreads itself is for validation to refuse."""
    if name not in state.known:
        definition = state.fragments.get(name)
        if definition is None or name in state.open:
            return Facts()
        state.open.add(name)
        facts = _measure(definition.selection_set, state, 1)
        facts.directives += len(definition.directives or ())
        state.open.discard(name)
        state.known[name] = facts
    return state.known[name]


def _times(node: FieldNode, state: _Pass) -> int:
    """How often a field's selection is executed."""
    name = node.name.value
    arguments = {a.name.value: a.value for a in node.arguments or ()}
    state.varies |= any(isinstance(arguments.get(sized), VariableNode) for sized in ("ids", "first"))
    if name == "nodes":
        ids = arguments.get("ids")
        if isinstance(ids, ListValueNode):
            return max(1, len(ids.values))
        given = state.variables.get(ids.name.value) if isinstance(ids, VariableNode) else None
        return max(1, len(given)) if isinstance(given, list) else 1
    if "first" not in arguments:
        return DEFAULT_PAGE if name in state.costs.paged else 1
    value: Any = arguments["first"]
    size: object = DEFAULT_PAGE
    if isinstance(value, IntValueNode):
        size = int(value.value) if len(value.value) < 10 else -1
    elif isinstance(value, VariableNode):
        size = state.variables.get(value.name.value, DEFAULT_PAGE)
    if size is None:
        return DEFAULT_PAGE
    if not isinstance(size, int) or not 1 <= size <= MAX_PAGE:
        raise LimitExceeded(
            f"`first` of {name} must be 1 to {MAX_PAGE}; ask for more with `after`.", code=LimitCode.PAGE, field="first"
        )
    return size


def _spreads(document: DocumentNode) -> int:
    """Spreads anywhere in the document, counted without following any."""
    count = 0
    waiting: list[SelectionSetNode | None] = [getattr(d, "selection_set", None) for d in document.definitions]
    while waiting:
        selections = waiting.pop()
        for selection in selections.selections if selections else ():
            count += isinstance(selection, FragmentSpreadNode)
            waiting.append(getattr(selection, "selection_set", None))
    return count


def _limit(code: LimitCode, what: str, found: int, limit: int) -> None:
    if found > limit:
        raise LimitExceeded(f"The document has {found} {what}; at most {limit}. Ask in several requests.", code=code)
