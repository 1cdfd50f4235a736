"""A funnel's question as SQL: one statement, its text put together from `sql/queries/funnel.sql`.

The way of the rows: hits (events with their key) -> in SEQUENTIAL order chain_1 .. chain_n, a window over each
visitor's events for each step; in STRICT and ANY order one window for all -> attempts (what each visitor, or visitor
and value, reached) -> visitors.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import epoch_ms
from core.filters import EventFilter
from core.queries import Query, named
from query.conditions import Values, condition_of, matches, text_of
from query.funnel import Attribution, CohortFilter, CohortOutcome, Exclusion, FunnelQuestion, StepOrder

ANSWER = named("funnel", "answer")
# The milliseconds of the edges of a histogram of times to convert; those within the window are used.
HISTOGRAM_MS = tuple(
    1000 * seconds
    for seconds in (
        1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 259_200,
        432_000, 604_800, 1_209_600, 2_592_000, 5_184_000, 7_776_000, 15_552_000,
    )
)  # fmt: skip


def answer_statement(question: FunnelQuestion, start: datetime, end: datetime) -> tuple[Query, list[str]]:
    """The statement that answers a question over attempts that begin in [start, end), and its one parameter."""
    return _Funnel(question, start, end, Values(1)).answer()


def cohort_condition(cohort: CohortFilter, start: datetime, end: datetime, values: Values) -> str:
    """A condition on a row of events: whether its visitor is of the cohort. The funnel's attempts begin in
    [start, end)."""
    funnel = _Funnel(cohort.funnel, start, end, values)
    visitors = funnel.visitors()
    name = "reached" if cohort.outcome is CohortOutcome.CONVERTED else "dropped"
    condition = _text(name).format(step=cohort.step, next=cohort.step + 1)
    return _text("cohort").format(visitors=visitors, condition=condition)


def histogram_edges(question: FunnelQuestion) -> list[int]:
    """Upper edges (inclusive, in milliseconds); the last is the window."""
    return [*(edge for edge in HISTOGRAM_MS if edge < question.window_ms), question.window_ms]


@dataclass(slots=True)
class _Funnel:
    """A question while its statement is put together."""

    question: FunnelQuestion
    start: datetime
    end: datetime
    values: Values

    @property
    def count(self) -> int:
        return len(self.question.steps)

    @property
    def numbers(self) -> range:
        return range(1, self.count + 1)

    @property
    def order(self) -> str:
        has_label = self.question.breakdown is not None and not self.is_by_value
        return _text("order_by_visitor").format(
            partition=", ".join(self.partition), key="key, label" if has_label else "key"
        )

    @property
    def partition(self) -> list[str]:
        """What an attempt stays within."""
        held = [f"held_{index}" for index in range(len(self.question.hold_constant))]
        return ["visitor", *(["label"] if self.is_by_value else []), *held]

    @property
    def is_by_value(self) -> bool:
        breakdown = self.question.breakdown
        return breakdown is not None and breakdown.attribution is Attribution.ALL

    @property
    def labelled_steps(self) -> list[int]:
        """The steps whose value is wanted."""
        breakdown = self.question.breakdown
        if breakdown is None or self.is_by_value:
            return []
        if breakdown.attribution is Attribution.LAST_TOUCH:
            return list(self.numbers)
        return [breakdown.step or 1]

    @property
    def timed_steps(self) -> list[int]:
        """The steps to which a time is told."""
        return [self.count] if self.question.order is StepOrder.ANY else list(self.numbers[1:])

    @property
    def range_ms(self) -> int:
        return _ceil_ms(self.end) - _ceil_ms(self.start)

    def bit(self, step: int) -> int:
        """Bits stand in the steps' order, the first the highest, and then the exclusions'."""
        return 1 << (self.count + len(self.question.exclusions) - step)

    def mask(self, after_step: int) -> int:
        """The bits of the exclusions between a step and the next."""
        return sum(
            1 << (len(self.question.exclusions) - 1 - index)
            for index, exclusion in enumerate(self.question.exclusions)
            if exclusion.after_step <= after_step < _before(exclusion, self.count)
        )

    def answer(self) -> tuple[Query, list[str]]:
        parts = {
            "visitors": self.visitors(),
            "groups": self._groups(),
            "figures": ", ".join(self._figures()),
        }
        return ANSWER.filled(**parts), self.values.texts

    def visitors(self) -> str:
        """The common table expressions, of which the last is `visitors`: a row each, with t_k and d_k."""
        chain, name = {
            StepOrder.SEQUENTIAL: self._sequential, StepOrder.STRICT: self._strict, StepOrder.ANY: self._any
        }[self.question.order]()  # fmt: skip
        return ", ".join([self._hits(), *chain, self._attempts(name), *self._per_visitor()])

    def _hits(self) -> str:
        question, values = self.question, self.values
        filters = [step.filter for step in question.steps] + [e.filter for e in question.exclusions]
        full = (1 << len(filters)) - 1
        bits = [
            _text("bit").format(condition=matches(wanted, values), bit=1 << (len(filters) - 1 - index))
            for index, wanted in enumerate(filters)
        ]
        conditions = [condition_of(condition, values) for condition in question.filters]
        is_strict = question.order is StepOrder.STRICT
        types = None if is_strict else _types(filters)
        if types is not None or not conditions:
            conditions.insert(0, matches(EventFilter(types), values))
        held = list(enumerate(question.hold_constant))
        labels = [_text("held").format(index=index, text=text_of(name, values)) for index, name in held]
        if question.breakdown is not None:
            labels.append(_text("label").format(text=text_of(question.breakdown.dimension, values)))
        wanted = [
            _named("everything") if is_strict else _text("is_hit"),
            *(_text("is_held").format(index=i) for i, _ in held),
        ]
        base = _ceil_ms(self.start)
        return _text("hits").format(
            base=values.one(f"{base / 1000:.3f}"),
            full=full,
            extra="".join(f", {name}" for name in self._extra),
            bits=" | ".join(bits),
            labels="".join(labels),
            since=self._instant(base),
            until=self._instant(base + self.range_ms + question.window_ms),
            bots="" if question.include_bots else _text("without_bots"),
            filters=" AND ".join(conditions),
            wanted=" ".join(wanted),
        )

    @property
    def _extra(self) -> list[str]:
        """Columns of a hit beside its visitor and key."""
        held = [f"held_{index}" for index in range(len(self.question.hold_constant))]
        return [*(["label"] if self.question.breakdown is not None else []), *held]

    def _instant(self, milliseconds: int) -> str:
        return _text("instant").format(value=self.values.one(f"{milliseconds / 1000:.3f}"))

    def _sequential(self) -> tuple[list[str], str]:
        struck = [step for step in self.numbers[:-1] if self.mask(step)]
        parts = []
        if struck:
            counts = ", ".join(_text("segment").format(step=step, mask=self.mask(step)) for step in struck)
            parts.append(_text("segments").format(counts=counts, order=self.order))
        entry = _text("entry").format(
            bit=self.bit(1), range=self.range_ms, segment=self._tag(1), source="segments" if struck else "hits"
        )
        parts.append(entry)
        for step in self.numbers[1:]:
            carried = ["visitor", "key", *self._extra, *(f"g_{n}" for n in struck), *(f"v_{n}" for n in range(1, step))]
            alive = _text("alive").format(before=step - 1, mask=self.mask(step - 1)) if self.mask(step - 1) else ""
            parts.append(
                _text("chain").format(
                    step=step,
                    before=step - 1,
                    bit=self.bit(step),
                    carried=", ".join(carried),
                    window=self.question.window_ms,
                    alive=alive,
                    segment=self._tag(step),
                    order=self.order,
                    from_here=sum(self.bit(later) for later in range(step, self.count + 1)),
                )
            )
        return parts, f"chain_{self.count}"

    def _tag(self, step: int) -> str:
        is_struck = step < self.count and self.mask(step)
        return _text("tag").format(step=step) if is_struck else ""

    def _strict(self) -> tuple[list[str], str]:
        lags = ", ".join(_text("lag").format(by=by) for by in range(1, self.count))
        steps = []
        for step in self.numbers:
            before = "".join(
                _text("strict_before").format(by=by, bit=self.bit(step - by)) + " " for by in range(1, step)
            )
            first = "key" if step == 1 else f"k_{step - 1}"
            steps.append(
                _text("strict_step").format(
                    step=step, bit=self.bit(step), before=before, first=first, range=self.range_ms,
                    window=self.question.window_ms,
                )
            )  # fmt: skip
        carried = ", ".join(["visitor", "key", *self._extra])
        return [
            _text("strict_rows").format(lags=lags, order=self.order),
            _text("strict").format(carried=carried, steps=", ".join(steps)),
        ], "chain"

    def _any(self) -> tuple[list[str], str]:
        mask, window = self.mask(1), self.question.window_ms
        excluded = _text("latest_exclusion").format(mask=mask, order=self.order) if mask else _text("no_exclusion")
        latest = _text("latest").format(
            steps=", ".join(_text("latest_step").format(bit=self.bit(step), step=step) for step in self.numbers),
            all=sum(self.bit(step) for step in self.numbers),
            range=self.range_ms,
            excluded=excluded,
            order=self.order,
        )
        alive = [_text("any_alive").format(key=f"k_{step}", window=window) for step in self.numbers]
        chain = _text("any_order").format(
            carried=", ".join(["visitor", "key", *self._extra]),
            steps=", ".join(_text("any_step").format(step=step) for step in self.numbers),
            keys=", ".join(f"k_{step}" for step in self.numbers),
            entered=_text("any_alive").format(key="entered", window=window),
            done=" + ".join(_text("any_done").format(alive=one) for one in alive),
        )
        return [latest, chain], "chain"

    def _attempts(self, chain: str) -> str:
        steps = [
            _text("attempt_step").format(step=step, start=f"v_{step} & 68719476735")
            if step in self.timed_steps
            else _text("attempt_step_untimed").format(step=step)
            for step in self.numbers
        ]
        labels = "".join(", " + _text("attempt_label").format(step=step) for step in self.labelled_steps)
        return _text("attempts").format(
            partition=", ".join(self.partition), steps=", ".join(steps), labels=labels, chain=chain
        )

    def _per_visitor(self) -> list[str]:
        if len(self.partition) == 1:
            return [_text("visitors_as_attempts")]
        found = [self._over("visitors", "visitor", self.labelled_steps)]
        if self.is_by_value and self.question.hold_constant:
            found.append(self._over("by_value", "visitor, label", []))
        return found

    def _over(self, name: str, keys: str, labelled: list[int]) -> str:
        steps = ", ".join(_text("over_step").format(step=step) for step in self.numbers)
        labels = "".join(", " + _text("over_label").format(step=step) for step in labelled)
        return _text("visitors_over").format(name=name, keys=keys, steps=steps, labels=labels)

    def _groups(self) -> str:
        breakdown = self.question.breakdown
        columns = ", ".join(f"t_{step}, d_{step}" for step in self.numbers)
        if breakdown is None:
            return _text("ungrouped").format(columns=columns)
        labels = [f"label_{step}" for step in reversed(self.labelled_steps)]
        labelled = "visitors"
        if self.is_by_value:
            labels, labelled = ["label"], "by_value" if self.question.hold_constant else "attempts"
        return _text("grouped").format(
            label=_text("first_of").format(labels=", ".join(labels)),
            labelled=labelled,
            columns=columns,
            limit=self.values.one(str(breakdown.limit)),
        )

    def _figures(self) -> list[str]:
        found = [_text("counted").format(step=step) for step in self.numbers]
        found += [_text("times").format(step=step) for step in self.timed_steps]
        counts = ", ".join(
            _text("within").format(step=self.count, most=edge) for edge in histogram_edges(self.question)
        )
        return [*found, _text("histogram").format(counts=counts)]


def _before(exclusion: Exclusion, steps: int) -> int:
    return exclusion.before_step or steps


def _types(filters: list[EventFilter]) -> tuple[str, ...] | None:
    """The types of which alone any of the filters can hold; None where one takes every type."""
    if any(wanted.types is None for wanted in filters):
        return None
    return tuple(dict.fromkeys(name for wanted in filters for name in wanted.types or ()))


def _ceil_ms(moment: datetime) -> int:
    """The first millisecond that is not before a moment."""
    return epoch_ms(moment) + (1 if moment.microsecond % 1000 else 0)


def _text(name: str) -> str:
    return named("funnel", name).text


def _named(name: str) -> str:
    return named("conditions", name).text
