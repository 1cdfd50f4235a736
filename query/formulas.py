"""A formula is asked as its metrics are: each is read once for the same buckets, and what belongs together is reckoned
with. Totals come from the totals of its metrics, and `__other__` from the merged parts of all that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from core.errors import BadInput
from core.formula import Expression, references_of
from core.formula_checks import expand
from core.metrics import MetricDefinition
from query.answer import QueryWarning
from query.question import DEFAULT_PERCENTILES, MetricQuestion


def expression_of(definition: MetricDefinition, metrics: Mapping[str, MetricDefinition]) -> Expression:
    """A formula's expression over metrics that are no formulas.

    Raises:
        BadInput: it refers to what is not there any more.
    """
    assert definition.defined is not None and definition.defined.formula is not None
    if definition.defined.expression is not None:
        return definition.defined.expression
    try:
        return expand(definition.defined.formula, metrics, definition.key)
    except BadInput as refusal:
        message = f"The formula {definition.key} cannot be asked any more: {refusal.message} Edit it."
        raise BadInput(message, code=refusal.code, field="metric") from None


def questions_of(question: MetricQuestion, expression: Expression) -> dict[str, MetricQuestion]:
    """What is asked of each metric of a formula."""
    keys = dict.fromkeys(reference.key for reference in references_of(expression))
    return {key: replace(question, metric=key, percentiles=DEFAULT_PERCENTILES) for key in keys}


def zero_warnings(zeros: int, values: int) -> tuple[QueryWarning, ...]:
    """What to know where a formula divides by zero."""
    if not zeros:
        return ()
    return (
        QueryWarning(
            "division_by_zero",
            f"The formula divides by zero for {zeros} of its {values} values and totals: they are null. A longer "
            "interval, or fewer groups, leave fewer of them.",
        ),
    )
