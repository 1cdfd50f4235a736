"""What a formula refers to, checked: its metrics exist, no formula refers to itself, units fit. Pure.

Units: a COUNT is of events, whatever its unit is called, so that orders and refunds add up; a RATIO, `%` and what has
no unit are pure numbers; any other unit is itself, and may be a product such as `bytes/s`. Only equal ones are added;
a plain number takes the unit of what it is added to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from core.errors import BadInput, Conflict
from core.formula import Expression, Number, Operation, Reference, bad_formula, nodes_of, parse_formula, references_of
from core.metrics import MetricDefinition, MetricKind

MAX_METRICS = 10
# Formulas of formulas are written out in full: so they cost what they cost, however deep they are nested.
MAX_NODES = 300
MAX_LEVELS = 10

# A unit as its factors' exponents; None: of a plain number.
Unit = Mapping[str, int]
_PURE = frozenset({"", "%", "percent", "ratio"})


def expand(text: str, by_key: Mapping[str, MetricDefinition], own_key: str = "") -> Expression:
    """A formula's expression over metrics that are no formulas. `own_key` is the formula's own.

    Raises:
        BadInput: a metric is missing, is the formula itself, or a percentile is not named; or it is too large.
    """
    expression = _Expansion(by_key).of_text(text, (own_key,))
    found = references_of(expression)
    if not found:
        raise bad_formula("A formula refers to at least one metric.")
    if len(found) > MAX_METRICS:
        raise bad_formula(f"A formula refers to at most {MAX_METRICS} metrics, those of its formulas included; this "
                          f"one to {len(found)}.", "formula_too_large")  # fmt: skip
    return expression


def unit_of_formula(text: str, by_key: Mapping[str, MetricDefinition]) -> str:
    """The unit of a formula that can be expanded, as people write it; '' of a pure number.

    Raises:
        BadInput: it adds what has different units.
    """
    # As it is written: a formula within has the unit that its maker gave it, whatever it is made of.
    return written(_unit_of(parse_formula(text), by_key) or {})


def check_refers(metric: MetricDefinition, by_key: Mapping[str, MetricDefinition]) -> None:
    """Refuses a formula whose metrics are not all there, or do not fit together.

    Raises:
        BadInput: see `expand` and `unit_of_formula`.
    """
    if metric.defined is not None and metric.defined.formula is not None:
        expand(metric.defined.formula, by_key, metric.key)
        unit_of_formula(metric.defined.formula, by_key)


def check_change(metric: MetricDefinition, by_key: Mapping[str, MetricDefinition]) -> None:
    """Refuses a metric as it is to become where it would not stand itself, or formulas that refer to it would not.

    Raises:
        BadInput, Conflict.
    """
    check_refers(metric, by_key)
    check_dependents(metric.key, by_key, {**by_key, metric.key: metric})


def check_dependents(key: str, before: Mapping[str, MetricDefinition], after: Mapping[str, MetricDefinition]) -> None:
    """Refuses a change of a metric by which a formula that stood before it would stand no more.

    Raises:
        Conflict: names the formula and what is wrong with it then.
    """
    for metric in after.values():
        wrong = None if metric.key == key else _wrong_with(metric, after)
        if wrong is not None and _wrong_with(metric, before) is None:
            raise Conflict(f"The formula {metric.key} refers to {key}, and would not stand: {wrong.message} Change it "
                           "first, or archive it.", code="metric_in_use")  # fmt: skip


def _wrong_with(metric: MetricDefinition, by_key: Mapping[str, MetricDefinition]) -> BadInput | None:
    try:
        check_refers(metric, by_key)
    except BadInput as refusal:
        return refusal
    return None


def common_dimensions(expression: Expression, by_key: Mapping[str, MetricDefinition]) -> tuple[str, ...]:
    """What every metric of an expanded formula may be grouped and filtered by."""
    first, *others = [by_key[reference.key].dimensions for reference in references_of(expression)]
    return tuple(dimension for dimension in first if all(dimension in other for other in others))


def written(unit: Unit) -> str:
    """A unit as text: `bytes/s`."""
    above = [name for name, power in sorted(unit.items()) for _ in range(power)]
    below = [name for name, power in sorted(unit.items()) for _ in range(-power)]
    return "/".join(["*".join(above) or "1", *below]) if below else "*".join(above)


def unit_of_metric(definition: MetricDefinition) -> Unit:
    """A metric's unit for reckoning."""
    if definition.kind is MetricKind.COUNT:
        return {"events": 1}
    return {} if definition.kind is MetricKind.RATIO else read_unit(definition.unit)


def read_unit(text: str) -> Unit:
    """A unit that was written as `a*b/c`."""
    found = Counter[str]()
    for position, part in enumerate(text.split("/")):
        for name in part.split("*"):
            if name.strip() not in _PURE | {"1"}:
                found[name.strip()] += -1 if position else 1
    return _reduced(found)


class _Expansion:
    """Writes formulas out in full, each once, those within a formula before it itself."""

    def __init__(self, by_key: Mapping[str, MetricDefinition]) -> None:
        self._by_key = by_key
        self._known: dict[str, Expression] = {}

    def of_text(self, text: str, within: tuple[str, ...]) -> Expression:
        """`within` are the keys of the formulas around it."""
        if len(within) > MAX_LEVELS:
            raise bad_formula(f"Formulas refer to formulas at most {MAX_LEVELS} deep.", "formula_too_large")
        parsed = parse_formula(text)
        for reference in references_of(parsed):
            self._check_referred(reference, within)
            metric = self._by_key[reference.key]
            if metric.defined is not None and metric.defined.formula is not None and metric.key not in self._known:
                self._known[metric.key] = self.of_text(metric.defined.formula, (*within, metric.key))
        found = self._put_in(parsed)
        if any(count > MAX_NODES for count, _ in enumerate(nodes_of(found), 1)):
            raise bad_formula(f"With the formulas it refers to written out, it has more than {MAX_NODES} numbers, "
                              "metrics and operators; refer to fewer formulas.", "formula_too_large")  # fmt: skip
        return found

    def _put_in(self, node: Expression) -> Expression:
        if isinstance(node, Operation):
            return Operation(node.operator, self._put_in(node.left), self._put_in(node.right))
        return self._known.get(node.key, node) if isinstance(node, Reference) else node

    def _check_referred(self, reference: Reference, within: tuple[str, ...]) -> None:
        key = reference.key
        if key in within:
            way = " -> ".join([*within[within.index(key) :], key])
            raise bad_formula(f"A formula cannot refer to itself: {way}.", "formula_cycle")
        metric = self._by_key.get(key)
        if metric is None:
            raise bad_formula(f"There is no metric {key[:80]!r}; `Tenant.metrics` lists those that there are.",
                              "unknown_metric")  # fmt: skip
        if metric.kind is MetricKind.PERCENTILE and reference.percentile is None:
            raise bad_formula(f"{key} is a percentile metric: write which percentile, such as p95({key}).")
        if metric.kind is not MetricKind.PERCENTILE and reference.percentile is not None:
            raise bad_formula(f"{key} is no percentile metric but {metric.kind}: write {key} alone.")


def _unit_of(node: Expression, by_key: Mapping[str, MetricDefinition]) -> Unit | None:
    if isinstance(node, Number):
        return None
    if isinstance(node, Reference):
        return unit_of_metric(by_key[node.key])
    left, right = _unit_of(node.left, by_key), _unit_of(node.right, by_key)
    if node.operator in "+-":
        if left is not None and right is not None and left != right:
            raise _unequal(node, left, right)
        return right if left is None else left
    if left is None and right is None:
        return None
    found = Counter(left or {})
    for name, power in (right or {}).items():
        found[name] += power if node.operator == "*" else -power
    return _reduced(found)


def _unequal(node: Operation, left: Unit, right: Unit) -> BadInput:
    names = {"+": "added", "-": "subtracted"}
    return bad_formula(
        f"{written(left) or 'a pure number'} and {written(right) or 'a pure number'} cannot be "
        f"{names[node.operator]}. Divide one by a metric of its unit, or define a formula that converts it "
        'and has the other\'s unit, such as p95(request_duration) / 1000 with the unit "s".',
        "unit_mismatch",
    )


def _reduced(powers: Mapping[str, int]) -> Unit:
    return {name: power for name, power in powers.items() if power}
