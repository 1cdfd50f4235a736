"""Formulas over metrics, such as `errors / requests * 100`: text to expression, and an expression's value.

    sum     = product {("+" | "-") product}
    product = signed {("*" | "/") signed}
    signed  = "-" signed | number | key | percentile "(" key ")" | "(" sum ")"

A key names a metric; `p95(request_duration)` a percentile of one. Which metrics there are: `core/formula_checks.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from core.errors import BadInput

MAX_LENGTH = 500
MAX_DEPTH = 32

Value = int | float | None


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Reference:
    """A metric by its key; of a PERCENTILE one, which."""

    key: str
    percentile: float | None = None

    def __str__(self) -> str:
        return self.key if self.percentile is None else f"p{self.percentile:g}({self.key})"


@dataclass(frozen=True, slots=True)
class Operation:
    """`operator` is +, -, * or /; a sign is 0 minus what it stands before."""

    operator: str
    left: Expression
    right: Expression


Expression = Number | Reference | Operation

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?)(?![A-Za-z0-9_.])"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[0-9]+)?)|(?P<sign>[-+*/()]))"
)
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,3})?)")


@lru_cache(4096)
def parse_formula(text: str) -> Expression:
    """The expression of a formula. Whether its metrics exist, `core/formula_checks.py` says.

    Raises:
        BadInput: it is none; says at which character and what was expected.
    """
    if len(text) > MAX_LENGTH:
        raise bad_formula(f"A formula has at most {MAX_LENGTH} characters, this one {len(text)}; name parts of it as "
                          "formulas of their own.")  # fmt: skip
    parser = _Parser(text)
    found = parser.sum(0)
    if parser.kind:
        raise parser.expected("an operator (+ - * /) or the end")
    return found


def references_of(expression: Expression) -> list[Reference]:
    """The metrics that an expression refers to, each once, in the order of the text."""
    return list(dict.fromkeys(node for node in nodes_of(expression) if isinstance(node, Reference)))


def nodes_of(expression: Expression) -> Iterator[Expression]:
    """An expression and all within it."""
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, Operation):
            waiting += (node.right, node.left)


class ZeroDivisor(Exception):
    """Something was divided by zero: there is no value."""


def evaluate(expression: Expression, value_of: Callable[[Reference], Value]) -> Value:
    """An expression's value; None where a metric has none, or the result is beyond what a double holds.

    Raises:
        ZeroDivisor: a divisor is zero.
    """
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Reference):
        return value_of(expression)
    left, right = evaluate(expression.left, value_of), evaluate(expression.right, value_of)
    if left is None or right is None:
        return None
    try:
        found = _calculated(expression.operator, left, right)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def bad_formula(message: str, code: str = "bad_formula") -> BadInput:
    return BadInput(message, code=code, field="formula")


def _calculated(operator: str, left: int | float, right: int | float) -> int | float:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        raise ZeroDivisor
    return left / right


class _Parser:
    """Descends through the grammar; `kind` and `text` are the token ahead, '' at the end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._next = 0
        self.kind = self.text = ""
        self._take()

    def sum(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise bad_formula(f"A formula has parentheses and signs at most {MAX_DEPTH} deep.")
        found = self._product(depth)
        while self.text in ("+", "-"):
            found = Operation(self._take(), found, self._product(depth))
        return found

    def _product(self, depth: int) -> Expression:
        found = self._signed(depth)
        while self.text in ("*", "/"):
            found = Operation(self._take(), found, self._signed(depth))
        return found

    def _signed(self, depth: int) -> Expression:
        if self.text == "-":
            self._take()
            if depth >= MAX_DEPTH:
                raise bad_formula(f"A formula has parentheses and signs at most {MAX_DEPTH} deep.")
            return Operation("-", Number(0), self._signed(depth + 1))
        if self.kind == "number":
            text = self._take()
            return Number(float(text) if re.search(r"[.eE]", text) else int(text))
        if self.kind == "name":
            return self._reference()
        if self.text == "(":
            self._take()
            found = self.sum(depth + 1)
            self._close()
            return found
        raise self.expected("a metric's key, a number or (")

    def _reference(self) -> Reference:
        name = self._take()
        if self.text != "(":
            if "." in name:
                raise bad_formula(f"There is no metric {name[:80]!r}: a key has letters, digits and _ alone.")
            return Reference(name)
        percentile = _PERCENTILE.fullmatch(name)
        if percentile is None or not 0 < float(percentile[1]) < 100:
            raise bad_formula(f"There is no function {name[:80]!r}; a percentile is written p95(key), above 0 and "
                              "below 100.")  # fmt: skip
        self._take()
        if self.kind != "name" or "." in self.text:
            raise self.expected("a metric's key")
        key = self._take()
        self._close()
        return Reference(key, float(percentile[1]))

    def _close(self) -> None:
        if self.text != ")":
            raise self.expected("an operator (+ - * /) or )")
        self._take()

    def expected(self, what: str) -> BadInput:
        found = repr(self.text) if self.text else "its end"
        place = self._next - len(self.text) + 1
        return bad_formula(f"In the formula, {what} was expected at character {place}, not {found[:80]}.")

    def _take(self) -> str:
        """The token ahead; the one behind it is ahead then."""
        taken = self.text
        token = _TOKEN.match(self._source, self._next)
        if token is not None:
            self.kind, self._next = token.lastgroup or "", token.end()
            self.text = token[self.kind]
            return taken
        rest = self._source[self._next :].lstrip()
        if rest:
            place = len(self._source) - len(rest)
            raise bad_formula(f"In the formula, {self._source[place : place + 12]!r} at character {place + 1} cannot "
                              "be read; it has keys, numbers, + - * / and parentheses.")  # fmt: skip
        self.kind = self.text = ""
        self._next = len(self._source)
        return taken
