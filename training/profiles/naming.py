"""Short names of segments, composed of parts that describe what distinguishes each one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_ORDER = ("before", "taste", "who", "after")
_MOST_PARTS = 2
_MOST_TASTES = 2
_LEAST_EFFECT = 0.5  # of a part, in standard deviations and relative to the strongest part
_AVERAGE = "Average customers"


def compose(parts: Sequence[str]) -> str:
    """Return the name that parts "slot:words" make, such as "Evening Books & Toys shoppers in the app".

    Slots are before, taste, who and after; the default of who is "shoppers" with a taste, else "customers".
    """
    words: dict[str, list[str]] = {slot: [] for slot in _ORDER}
    for part in parts:
        slot, _, text = part.partition(":")
        words[slot].append(text)
    taste = " & ".join(words["taste"])
    who = " ".join(words["who"]) or ("shoppers" if taste else "customers")
    name = " ".join(filter(None, [*words["before"], taste, who, *words["after"]]))
    return name[:1].upper() + name[1:]


def choose_parts(candidates: Sequence[tuple[str, float]], taken: Collection[str]) -> tuple[str, ...]:
    """Return the parts of a name that is not in `taken`; () if there are no candidates.

    candidates: (part, size of its effect), the strongest first. There are at most two parts, the second at
    least half as strong as the first; more only if the name is taken.
    """
    chosen: list[str] = []
    for part, effect in candidates:
        enough = effect >= max(_LEAST_EFFECT, _LEAST_EFFECT * candidates[0][1])
        wanted = not chosen or (len(chosen) < _MOST_PARTS and enough) or compose(chosen) in taken
        if wanted and _has_room(part, chosen):
            chosen.append(part)
    return tuple(chosen)


def distinct(parts: Sequence[str], taken: Collection[str]) -> str:
    """Return the name that parts make, with a number if it is taken."""
    name = compose(parts) if parts else _AVERAGE
    number, numbered = 2, name
    while numbered in taken:
        numbered, number = f"{name} ({number})", number + 1
    return numbered


def _has_room(part: str, chosen: Sequence[str]) -> bool:
    slot = part.partition(":")[0]
    used = sum(other.partition(":")[0] == slot for other in chosen)
    return part not in chosen and used < (_MOST_TASTES if slot == "taste" else 1)
