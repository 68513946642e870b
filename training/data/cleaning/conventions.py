"""The conventions of a source: one order of day and month and one decimal separator for all files.

Each file is cleaned under a convention, and the evidence in its values is counted. The values of all files of
a source decide. If all values are ambiguous, the sources file, the decision for earlier files, the shop's
country or a known exporter decides; otherwise the source is refused. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from babel import Locale, UnknownLocaleError

from shopsight.training.data.errors import IngestError
from shopsight.training.data.sources.source import Source

# A smaller share of contradicting values counts as errors, and their rows are refused.
_DIRT = 0.01
_MACHINE_FORMATS = ("jsonl", "parquet", "xlsx")  # written by programs that know decimal points alone


@dataclass(frozen=True)
class Convention:
    """How ambiguous values are read."""

    day_first: bool = True
    decimal: str = "."


@dataclass
class Evidence:
    """Evidence in the values of one file; examples: for each count the first (field, text, row).

    repeated_hour: number of times in the hour that local clocks repeat, where the earlier one is taken.
    """

    day_first: int = 0
    month_first: int = 0
    either_date: int = 0
    comma: int = 0
    point: int = 0
    either_amount: int = 0
    repeated_hour: int = 0
    examples: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def add(self, kind: str, count: int, example: tuple[str, str, int] | None) -> None:
        """Count some values."""
        setattr(self, kind, getattr(self, kind) + count)
        if count and example:
            self.examples.setdefault(kind, example)

    def as_dict(self) -> dict[str, Any]:
        """The evidence as JSON takes it."""
        return asdict(self)

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Evidence:
        """Read what `as_dict` wrote."""
        examples = {kind: (str(f), str(t), int(r)) for kind, (f, t, r) in raw["examples"].items()}
        return Evidence(**{**raw, "examples": examples})


@dataclass(frozen=True)
class Settled:
    """The convention of a source and the reason as text; `known` is saved for later runs if values decided
    it."""

    convention: Convention
    notes: tuple[str, ...]
    known: dict[str, Any]


@dataclass(frozen=True)
class _Question:
    """One thing that is decided: the counts that speak for each answer, and how it is said."""

    key: str
    answers: tuple[Any, Any]
    says: tuple[str, str]
    kinds: tuple[str, str]
    either: str
    words: tuple[str, str]
    remedy: str


_DATES = _Question(
    "date_order", (True, False), ("day_first", "month_first"), ("day_first", "month_first"), "either_date",
    ("the day first", "the month first"), 'date_order = "day_first" or "month_first"',
)  # fmt: skip
_DECIMALS = _Question(
    "decimal", (".", ","), (".", ","), ("point", "comma"), "either_amount",
    ("a decimal point", "a decimal comma"), 'decimal = "." or ","',
)  # fmt: skip


def settle(
    sources: list[Source],
    formats: Iterable[str],
    seen: Sequence[tuple[str, Evidence]],
    remembered: Mapping[str, Any],
    exporter: Convention | None,
) -> Settled:
    """Decide the convention of sources that read the same files; `seen` is the evidence with file names.

    remembered: `Settled.known` of the last run. Raises IngestError if values contradict each other or the
    remembered convention, and if all values are ambiguous and nothing else decides.
    """
    day_first, why_dates = _decide(
        _DATES, sources, seen, remembered, exporter.day_first if exporter else None, None
    )
    machine = "." if set(formats) <= set(_MACHINE_FORMATS) else None
    decimal, why_decimals = _decide(
        _DECIMALS, sources, seen, remembered, exporter.decimal if exporter else None, machine
    )
    convention = Convention()
    known: dict[str, Any] = {}
    if day_first is not None:
        convention = replace(convention, day_first=day_first)
    if decimal is not None:
        convention = replace(convention, decimal=decimal)
    for question, answer in ((_DATES, day_first), (_DECIMALS, decimal)):
        if answer is not None and _is_of_values(question, sources, seen, remembered):
            known[question.key] = answer
    repeated = sum(evidence.repeated_hour for _, evidence in seen)
    notes = [why for why in (why_dates, why_decimals) if why]
    if repeated:
        notes.append(
            f"{repeated:,} times are in the hour that clocks in {sources[0].timezone} repeat in autumn: "
            "the earlier of the two is taken"
        )
    return Settled(convention, tuple(f"{sources[0].label}: {note}" for note in notes), known)


def needs_reading_again(evidence: Evidence, used: Convention, decided: Convention) -> bool:
    """Return whether a file that was cleaned under one convention would differ under another."""
    dates = evidence.day_first + evidence.month_first + evidence.either_date
    return bool(
        (used.day_first != decided.day_first and dates)
        or (used.decimal != decided.decimal and evidence.either_amount)
    )


def first_guess(
    sources: list[Source], remembered: Mapping[str, Any], exporter: Convention | None
) -> Convention:
    """Return the convention for the first file, before any value was seen."""
    dates = _prior(_DATES, sources, remembered, exporter.day_first if exporter else None)
    decimals = _prior(_DECIMALS, sources, remembered, exporter.decimal if exporter else None)
    return Convention(True if dates is None else dates[0], "." if decimals is None else decimals[0])


def better_guess(guess: Convention, evidence: Evidence) -> Convention:
    """Return the convention for the next file, given the evidence of one."""
    if evidence.day_first != evidence.month_first:
        guess = replace(guess, day_first=evidence.day_first > evidence.month_first)
    if evidence.comma != evidence.point:
        guess = replace(guess, decimal="," if evidence.comma > evidence.point else ".")
    return guess


def _decide(
    question: _Question,
    sources: list[Source],
    seen: Sequence[tuple[str, Evidence]],
    remembered: Mapping[str, Any],
    exporter: Any,
    machine: Any,
) -> tuple[Any, str | None]:
    """The answer (None: it makes no difference) and what to say of it."""
    votes = [sum(getattr(evidence, kind) for _, evidence in seen) for kind in question.kinds]
    either = sum(getattr(evidence, question.either) for _, evidence in seen)
    prior = _prior(question, sources, remembered, exporter)
    if prior is not None:
        answer, why, is_stated = prior
        place = question.answers.index(answer)
        against = votes[1 - place]
        if not is_stated and against > _DIRT * (sum(votes) + either) and _matters(question, either):
            raise IngestError(
                f"{sources[0].label}: {why}, so {question.words[place]} is meant, but "
                f"{_example(question.kinds[1 - place], seen)} can only have {question.words[1 - place]}; "
                f"say {question.remedy} for this source, or make files that write otherwise a source of "
                "their own"
            )
        said = f"{question.words[place]} is read, because {why}" if either and not is_stated else None
        return answer, said
    if not any(votes):
        if not either:
            return None, None
        if machine is not None:
            return machine, None
        raise IngestError(
            f"{sources[0].label}: {_example(question.either, seen)} can have {question.words[0]} or "
            f"{question.words[1]}, and no other value of the source tells which; say {question.remedy}, or "
            'the shop\'s country, as in country = "US"'
        )
    place = int(votes[1] > votes[0])
    if votes[1 - place] > _DIRT * sum(votes) and _matters(question, either):
        raise IngestError(
            f"{sources[0].label}: {_example(question.kinds[0], seen)} can only have {question.words[0]}, but "
            f"{_example(question.kinds[1], seen)} only {question.words[1]}; say {question.remedy}, or make "
            "files that write otherwise a source of their own"
        )
    example = _example(question.kinds[place], seen)
    said = f"{question.words[place]} is read in all files, because of {example}" if either else None
    return question.answers[place], said


def _is_of_values(
    question: _Question,
    sources: list[Source],
    seen: Sequence[tuple[str, Evidence]],
    remembered: Mapping[str, Any],
) -> bool:
    """Whether values of the files decided, now or earlier: what else says it is asked anew every time.

    So a preset that is mended, or a line of the sources file that is changed, reaches an old workspace.
    """
    if any(getattr(source, question.key) is not None for source in sources):
        return False
    return question.key in remembered or any(getattr(e, kind) for _, e in seen for kind in question.kinds)


def _matters(question: _Question, either: int) -> bool:
    """Numbers that tell themselves how they are written may differ; dates of two orders are two exports."""
    return bool(either) or question is _DATES


def _prior(
    question: _Question, sources: list[Source], remembered: Mapping[str, Any], exporter: Any
) -> tuple[Any, str, bool] | None:
    """What is known before any value was seen: the answer, why, and whether the sources file says it."""
    for source in sources:
        stated = getattr(source, question.key)
        if stated is not None:
            return question.answers[question.says.index(stated)], "the sources file says so", True
    if question.key in remembered:
        return remembered[question.key], "earlier files of the source decided so", False
    for source in sources:
        answer = _of_country(question, source.country) if source.country else None
        if answer is not None:
            return answer, f'the sources file says country = "{source.country}"', False
    if exporter is not None:
        return exporter, "its columns are those of a known exporter", False
    return None


def _of_country(question: _Question, country: str) -> Any:
    """What Unicode's CLDR says of a country; None where it writes the year first."""
    try:
        locale = Locale.parse(f"und_{country}")
    except (UnknownLocaleError, ValueError):
        return None
    if question is _DECIMALS:
        return locale.number_symbols.get("latn", {}).get("decimal")
    order = [letter for letter in locale.date_formats["short"].pattern if letter in "dMy"]
    return None if order[0] == "y" else order[0] == "d"


def _example(kind: str, seen: Sequence[tuple[str, Evidence]]) -> str:
    for name, evidence in seen:
        if kind in evidence.examples:
            field_name, text, row = evidence.examples[kind]
            return f'"{text}" ({field_name}, {name}, row {row})'
    return "a value"
