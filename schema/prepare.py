"""A document's way from text to something that may be executed: parsed with a bound, measured, validated; cached."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from core.errors import InvalidRequest
from schema.costs import Costs
from schema.limits import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TOKENS,
    Facts,
    LimitCode,
    LimitExceeded,
    check_document,
    check_variables,
)

# Where an operation's extensions have the document for the executor.
PREPARED = "prepared"
CACHE_ENTRIES = 500
MAX_CACHED_LENGTH = 16 * 1024
# Characters of all cached texts together: a parsed document takes 110 to 275 bytes of memory for each of its text.
MAX_CACHED_TOTAL = 256 * 1024
# As the schema's own executor would check: the specification's rules, and Strawberry's two.
RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)
MAX_VALIDATION_ERRORS = 5
# graphql-core tells near names of fields, arguments and types; the published schema is where to look them up.
_SUGGESTION = re.compile(r" Did you mean [^?]*\?")


def without_suggestion(message: str) -> str:
    return _SUGGESTION.sub("", message)


class DocumentInvalid(InvalidRequest):
    """The document cannot be parsed, or does not fit the schema."""

    def __init__(self, errors: list[GraphQLError], code: str) -> None:
        super().__init__(without_suggestion(errors[0].message), code=code)
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that may be executed: it is parsed and valid, and neither is done again. `introspects`: it asks for
    the schema itself."""

    text: str
    document: DocumentNode
    operation_name: str | None
    kind: OperationType
    cost: int
    introspects: bool


@dataclass(slots=True)
class _Known:
    """A document, what validation said of it, and what its operations amount to, where variables do not decide."""

    document: DocumentNode
    errors: list[GraphQLError] | None = None
    facts: dict[str | None, Facts] = field(default_factory=dict)


class DocumentCache:
    """Parsed documents and what is known of them, by text; the least used go first."""

    def __init__(self, schema: GraphQLSchema, costs: Costs) -> None:
        self._schema = schema
        self._costs = costs
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._length = 0

    def prepare(self, text: str, operation_name: str | None, variables: Mapping[str, object]) -> Prepared:
        """Checks a document, its limits before anything that takes longer.

        Raises:
            LimitExceeded, DocumentInvalid, InvalidRequest: with code and message.
        """
        known = self._known.get(text) or _Known(_parsed(text))
        document = known.document
        operation = _chosen(document, operation_name)
        check_variables(variables)
        facts = known.facts.get(operation_name) or check_document(document, operation, variables, self._costs)
        if not facts.varies:
            known.facts[operation_name] = facts
        if known.errors is None:
            known.errors = validate(self._schema, document, RULES, max_errors=MAX_VALIDATION_ERRORS)
        self._keep(text, known)
        if known.errors:
            raise DocumentInvalid(known.errors, "GRAPHQL_VALIDATION_FAILED")
        return Prepared(text, document, operation_name, operation.operation, facts.cost, facts.introspects)

    def _keep(self, text: str, known: _Known) -> None:
        if len(text) > MAX_CACHED_LENGTH:
            return
        if text not in self._known:
            self._length += len(text)
        self._known[text] = known
        self._known.move_to_end(text)
        while len(self._known) > CACHE_ENTRIES or self._length > MAX_CACHED_TOTAL:
            self._length -= len(self._known.popitem(last=False)[0])


def _parsed(text: str) -> DocumentNode:
    if len(text) > MAX_LENGTH:
        raise LimitExceeded(
            f"The document has {len(text)} characters; at most {MAX_LENGTH}. Put values into variables.",
            code=LimitCode.LENGTH,
        )
    try:
        return parse(text, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as error:
        if f"contains more than {MAX_TOKENS} tokens" in error.message:
            raise LimitExceeded(
                f"The document has more than {MAX_TOKENS} tokens; ask in several requests.", code=LimitCode.TOKENS
            ) from None
        if "Parsing aborted" in error.message:
            raise _too_deep() from None
        raise DocumentInvalid([error], "GRAPHQL_PARSE_FAILED") from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> LimitExceeded:
    return LimitExceeded(
        f"The document is nested too deeply; at most {MAX_DEPTH} levels of fields.", code=LimitCode.DEPTH
    )


def _chosen(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    if name is None and len(operations) == 1:
        return operations[0]
    found = [d for d in operations if d.name and d.name.value == name]
    if name is None or not found:
        raise DocumentInvalid(
            [
                GraphQLError(
                    "operationName must name one of the document's operations."
                    if operations
                    else "The document has no operation."
                )
            ],
            "GRAPHQL_VALIDATION_FAILED",
        )
    return found[0]
