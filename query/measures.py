"""How amounts that were read become numbers: of a metric its parts, of a formula the parts of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from core.formula import Expression, ZeroDivisor, evaluate
from core.metrics import MetricDefinition, MetricKind
from query.parts import Number, Parts
from query.question import MetricQuestion


class Measure(Protocol):
    """Merges amounts of one kind in any order, and tells their number. `zeros` counts numbers that are none since a
    divisor is zero."""

    zeros: int

    @property
    def percentiles(self) -> tuple[float | None, ...]:
        """The numbers of an amount: so many percentiles, or one of no percentile."""

    def merged(self, amounts: Iterable[Any]) -> Any:
        """All of them as one; none of them is changed."""

    def value(self, amount: Any, percentile: float | None, seconds: int) -> Number:
        """The number of an amount over so many seconds."""


class PartsMeasure:
    """Of a metric that is counted: amounts are `Parts`."""

    zeros = 0

    def __init__(self, definition: MetricDefinition, question: MetricQuestion) -> None:
        self._definition = definition
        is_of_percentiles = definition.kind is MetricKind.PERCENTILE
        self.percentiles: tuple[float | None, ...] = question.percentiles if is_of_percentiles else (None,)

    def merged(self, amounts: Iterable[Parts]) -> Parts:
        total = Parts()
        for amount in amounts:
            total.merge(amount)
        return total

    def value(self, amount: Parts, percentile: float | None, seconds: int) -> Number:
        return amount.value(self._definition, percentile, seconds)


class FormulaMeasure:
    """Of a formula: amounts are the parts of its metrics by key."""

    percentiles: tuple[float | None, ...] = (None,)

    def __init__(self, expression: Expression, definitions: Mapping[str, MetricDefinition]) -> None:
        self._expression = expression
        self._definitions = definitions
        self.zeros = 0

    def merged(self, amounts: Iterable[Mapping[str, Parts]]) -> dict[str, Parts]:
        total: dict[str, Parts] = {}
        for amount in amounts:
            for key, parts in amount.items():
                total.setdefault(key, Parts()).merge(parts)
        return total

    def value(self, amount: Mapping[str, Parts], percentile: float | None, seconds: int) -> Number:
        # A metric without a row counts nothing here: 0 or no value, as its kind says.
        nothing = Parts()
        try:
            return evaluate(
                self._expression,
                lambda reference: amount.get(reference.key, nothing).value(
                    self._definitions[reference.key], reference.percentile, seconds
                ),
            )
        except ZeroDivisor:
            self.zeros += 1
            return None
