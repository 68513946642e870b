"""Short names for segments, put together from what sets each apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_ORDER = ("before", "taste", "who", "after")
_MOST_PARTS = 2
_MOST_TASTES = 2
_FIT_FOR_A_NAME = 0.5  # of the strongest part's effect, and in standard deviations
_AVERAGE = "Average customers"


def compose(parts: Sequence[str]) -> str:
    """Put parts "slot:words" together: "Evening Books & Toys shoppers in the app".

    Slots are before, taste, who and after; without a who they are shoppers of a taste, or customers.
    """
    words: dict[str, list[str]] = {slot: [] for slot in _ORDER}
    for part in parts:
        slot, _, told = part.partition(":")
        words[slot].append(told)
    taste = " & ".join(words["taste"])
    who = " ".join(words["who"]) or ("shoppers" if taste else "customers")
    name = " ".join(filter(None, [*words["before"], taste, who, *words["after"]]))
    return name[:1].upper() + name[1:]


def choose_parts(telling: Sequence[tuple[str, float]], taken: Collection[str]) -> tuple[str, ...]:
    """Choose the parts of a name that no other segment has; () when nothing sets a segment apart.

    telling: (part, size of its effect), the strongest first. Two parts at most, the second at least half as
    strong as the first; more only where the name is taken.
    """
    chosen: list[str] = []
    for part, effect in telling:
        enough = effect >= max(_FIT_FOR_A_NAME, _FIT_FOR_A_NAME * telling[0][1])
        wanted = not chosen or (len(chosen) < _MOST_PARTS and enough) or compose(chosen) in taken
        if wanted and _has_room(part, chosen):
            chosen.append(part)
    return tuple(chosen)


def distinct(parts: Sequence[str], taken: Collection[str]) -> str:
    """Return the name that parts make, numbered where even it is taken."""
    name = compose(parts) if parts else _AVERAGE
    number, numbered = 2, name
    while numbered in taken:
        numbered, number = f"{name} ({number})", number + 1
    return numbered


def _has_room(part: str, chosen: Sequence[str]) -> bool:
    slot = part.partition(":")[0]
    held = sum(other.partition(":")[0] == slot for other in chosen)
    return part not in chosen and held < (_MOST_TASTES if slot == "taste" else 1)
