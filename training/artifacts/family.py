"""The descriptor of a family of models.

A family is a package of its own. Its `family.py` holds the descriptor, and pipeline/families.py lists it in
one line. The command line, recipes, jobs, searches, erasure and export read the descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopsight.training.artifacts.workspace import Workspace

# Called after every epoch of a trial with the number of epochs and the metrics, the decisive one first.
Keep = Callable[[int, dict[str, float]], None]


class NobodyToEvaluate(ValueError):  # noqa: N818 - reads as what is the case
    """The validation window has no customer to compare trials on."""

    @staticmethod
    def between(begin: Any, end: Any) -> NobodyToEvaluate:
        """Return the error for a window of time."""
        return NobodyToEvaluate(
            "no customer has both a past before and a target in the validation window, "
            f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}; set test_days, or ingest more events"
        )


@dataclass(frozen=True)
class Search:
    """How `tune` searches for settings of a family; settings have the names of `--set`.

    space: the default search space. read: the settings that a trial uses; others would have no effect.
    measured_by: settings of the evaluation, which must be equal in all trials. one_value: lists of which a
    trial uses the first value. num_epochs: epochs of a full trial, from the family's configuration. fit:
    trains, and calls `Keep` after every epoch; it has a folder of its own, from which it resumes.
    """

    space: Mapping[str, Any]
    read: tuple[str, ...]
    measured_by: frozenset[str]
    num_epochs: Callable[[Any], int]
    fit: Callable[[Workspace, Any, Path, Keep], None]
    one_value: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One family of models.

    config: a frozen dataclass of its settings, with defaults that fit any shop. requires: tables that must
    have rows; requires_purchases: whether a known customer must have bought goods. train, evaluate: return
    metrics. export: writes folders of models and returns them; None for a family that is exported by the
    family `served_in`. called_by: the family whose router calls this one's models and which is exported after
    it. on_request: "all" trains it only if it was trained by name before. data_parallel: whether several
    workers share its training. erasure: what `forget` removes from its weights: the rows of the customer, all
    weights, or nothing, if no row belongs to a customer.
    """

    name: str
    config: type[Any]
    requires: tuple[str, ...]
    train: Callable[..., dict[str, Any]]
    evaluate: Callable[[Workspace, Any], dict[str, Any]]
    export: Callable[[Workspace, Any], list[Path]] | None
    erasure: Literal["rows", "weights", "nothing"]
    requires_purchases: bool = False
    served_in: str | None = None
    called_by: str | None = None
    on_request: bool = False
    data_parallel: bool = False
    search: Search | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a descriptor that contradicts itself."""
        if (self.export is None) == (self.served_in is None):
            raise ValueError(f"family {self.name}: give either export or served_in")
        space = self.search.space if self.search else {}
        outside = [key for key in space if not key.startswith(f"{self.name}.")]
        if outside:
            raise ValueError(f"family {self.name}: its search space names {', '.join(outside)}")
