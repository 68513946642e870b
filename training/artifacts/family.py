"""What a family of models is: one descriptor, which everything that handles families reads.

A family is a package of its own. Its `family.py` holds the descriptor, and pipeline/families.py names it in
one line: the command line, recipes, jobs, searches, erasure and the export of its models follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopsight.training.artifacts.workspace import Workspace

Progress = Callable[[str], None]
# Called after every epoch of a trial with the epochs done and figures, the decisive one first.
Keep = Callable[[int, dict[str, float]], None]


class NobodyToEvaluate(ValueError):  # noqa: N818 - reads as what is the case
    """The validation window has no customer on whom trials could be compared."""

    @staticmethod
    def between(begin: Any, end: Any) -> NobodyToEvaluate:
        """Return the error for a window of time."""
        return NobodyToEvaluate(
            "no customer has both a past before and a target in the validation window, "
            f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}; set test_days, or ingest more events"
        )


@dataclass(frozen=True)
class Search:
    """How `tune` searches for settings of a family; settings are named as after `--set`.

    space: what is tried unless a file says otherwise. read: the settings that a trial uses; others would
    change nothing. measured_by: settings that decide on whom and by what a trial is measured, so that trials
    of different ones cannot be compared. one_value: lists of which a trial takes the first value.
    num_epochs: of a trial that nothing stops, from the family's configuration. fit: fits and calls `Keep`
    after every epoch; the folder is its own, and an interrupted fit goes on from there.
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

    config: a frozen dataclass of its settings, with defaults that fit any shop. requires: tables without
    whose rows it cannot learn; requires_purchases: at least one purchase of goods by a known customer. train,
    evaluate: return figures. export: writes folders of models and returns them; None for a family whose
    forecasts `served_in` exports with its own. called_by: the family whose router asks this one's models, to
    be exported after it. on_request: "all" trains it only where it was trained by its name before.
    data_parallel: a group of workers shares its training. erasure: what `forget` takes out of its weights:
    rows of the customer, the weights as a whole, or nothing because no row of them is a customer's.
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
