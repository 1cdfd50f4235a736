"""A formula's answer: each of its metrics is read once for the same buckets, and what belongs together is reckoned
with. Totals come from the totals of its metrics, and `__other__` from the merged parts of all that it stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.errors import BadInput
from core.formula import Expression, Reference, ZeroDivisor, evaluate, references_of
from core.formula_checks import expand
from core.metrics import MetricDefinition
from query.answer import OTHER, Columns, Labels, QueryWarning, Series
from query.parts import Number, Parts, PartsRow
from query.question import DEFAULT_PERCENTILES, MetricQuestion

# Of one group: each metric's parts by its key.
PartsOf = dict[str, Parts]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one of a formula's metrics."""

    definition: MetricDefinition
    rows: Sequence[PartsRow]


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


def formula_columns(
    question: MetricQuestion, expression: Expression, readings: Mapping[str, Reading], starts: Sequence[int]
) -> tuple[Columns, tuple[QueryWarning, ...]]:
    """The columns of a formula, and what to know of them. `starts` are the buckets' in epoch seconds."""
    reckoner = _Reckoner(expression, readings)
    groups = _groups_of(question, readings, len(starts))
    totals = {labels: _merged(slots.values()) for labels, slots in groups.items()}
    values = {labels: reckoner.value(total) for labels, total in totals.items()}
    ranked = sorted(groups, key=lambda labels: (-(values[labels] or 0), labels))
    kept, rest = ranked[: question.limit], ranked[question.limit :]
    named = [dict(zip(question.group_by, labels, strict=True)) for labels in kept]
    lines = [(name, groups[labels], totals[labels]) for name, labels in zip(named, kept, strict=True)]
    if rest:
        slots = {slot: _merged([groups[labels].get(slot, {}) for labels in rest]) for slot in range(len(starts))}
        lines.append((dict.fromkeys(question.group_by, OTHER), slots, _merged([totals[labels] for labels in rest])))
    reckoner.zeros = 0
    series = [
        Series(name, [reckoner.value(slots.get(slot, {})) for slot in range(len(starts))], reckoner.value(total))
        for name, slots, total in lines
    ]
    return Columns([start * 1000 for start in starts], series), _warnings(
        reckoner.zeros, len(series) * (len(starts) + 1)
    )


class _Reckoner:
    """Reckons one group's value; `zeros` counts those that have none since a divisor is zero."""

    def __init__(self, expression: Expression, readings: Mapping[str, Reading]) -> None:
        self._expression = expression
        self._references = references_of(expression)
        self._definitions = {key: reading.definition for key, reading in readings.items()}
        self.zeros = 0

    def value(self, parts: PartsOf) -> Number:
        # A metric without a row counts nothing here: 0 or no value, as its kind says.
        numbers: dict[Reference, Number] = {
            reference: parts.get(reference.key, _NOTHING).value(self._definitions[reference.key], reference.percentile)
            for reference in self._references
        }
        try:
            return evaluate(self._expression, numbers.__getitem__)
        except ZeroDivisor:
            self.zeros += 1
            return None


_NOTHING = Parts()


def _groups_of(
    question: MetricQuestion, readings: Mapping[str, Reading], slots: int
) -> dict[Labels, dict[int, PartsOf]]:
    """Parts by equal labels, bucket and metric."""
    groups: defaultdict[Labels, defaultdict[int, PartsOf]] = defaultdict(lambda: defaultdict(dict))
    if not question.group_by:
        groups[()] = defaultdict(dict)
    for key, reading in readings.items():
        for row in reading.rows:
            if 0 <= row.slot < slots:
                groups[row.labels][row.slot].setdefault(key, Parts()).merge(row.parts)
    return {labels: dict(by_slot) for labels, by_slot in groups.items()}


def _merged(many: Iterable[PartsOf]) -> PartsOf:
    merged: PartsOf = {}
    for parts in many:
        for key, part in parts.items():
            merged.setdefault(key, Parts()).merge(part)
    return merged


def _warnings(zeros: int, values: int) -> tuple[QueryWarning, ...]:
    if not zeros:
        return ()
    return (
        QueryWarning(
            "division_by_zero",
            f"The formula divides by zero for {zeros} of its {values} values and totals: they are null. A longer "
            "interval, or fewer groups, leave fewer of them.",
        ),
    )
