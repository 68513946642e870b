"""The steps of a funnel, as text and checked against the events that there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shopsight.training.behaviour.errors import BehaviourError

_OPTIONAL = "?"


@dataclass(frozen=True)
class Step:
    """A kind of event; an optional step may be passed over."""

    event: str
    optional: bool = False

    def __str__(self) -> str:
        return self.event + (_OPTIONAL if self.optional else "")


def read_steps(steps: Sequence[str], known: Collection[str]) -> tuple[Step, ...]:
    """Return the steps of a funnel; "cart?" is an optional one.

    known: the kinds of events that there are. Raises BehaviourError for an unknown step, for one that is
    named twice, for fewer than two steps, and if the first or the last step is optional.
    """
    read = tuple(_step(text) for text in steps)
    names = [step.event for step in read]
    there = ", ".join(sorted(known)) or "none, the events table has no such rows"
    if unknown := [name for name in names if name not in known]:
        called = ", ".join(f"'{name}'" for name in unknown)
        raise BehaviourError(f"no event is called {called}; known steps: {there}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BehaviourError(f"the step '{twice[0]}' is named twice; name every step once")
    if len(read) < 2:
        raise BehaviourError(f"a funnel needs at least two steps, as in view,cart?,purchase; known: {there}")
    if read[0].optional or read[-1].optional:
        raise BehaviourError("the first and the last step of a funnel cannot be optional; take off their '?'")
    return read


def in_words(steps: Sequence[Step]) -> str:
    """Return the steps as one text: "view > cart? > purchase"."""
    return " > ".join(map(str, steps))


def _step(text: str) -> Step:
    name = text.strip()
    return Step(name.removesuffix(_OPTIONAL).strip(), name.endswith(_OPTIONAL))
