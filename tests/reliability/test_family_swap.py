"""Every family replaces what it has trained in one step: before it the old files are whole, after it the new.

A kill leaves the disk as it is at that moment. So the training of each family is watched from inside, and
before each change to the disk the trained state is read as it would be found after a kill there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import O_RDWR, O_WRONLY
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.contract import read_json
from shopsight.training.artifacts.family import Family
from shopsight.training.artifacts.trained_state import (
    STATE_FILE,
    TrainedState,
    folder_of,
    opened,
    training,
)
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.pipeline.families import FAMILIES
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.value.config import ValueConfig
from tests.training import language_shop
from tests.training.recommend.embedding.test_family import CONFIG as EMBEDDING
from tests.training.recommend.test_recommend import SMALL as RECOMMEND
from tests.training.small_shop import tastes_shop

ONE_EPOCH = replace(EMBEDDING.two_tower.loop, epochs=1)
CONFIGS: dict[str, Any] = {
    "language": replace(language_shop.SMALL, epochs=2),
    "profiles": ProfilesConfig(num_segments=3, num_bootstraps=2),
    "value": ValueConfig(horizon_days=20, num_bootstraps=5),
    "recommend": replace(RECOMMEND, iterations=2, regularizations=(0.1,), num_bootstraps=5),
    "embedding": replace(
        EMBEDDING,
        num_bootstraps=5,
        two_tower=replace(EMBEDDING.two_tower, loop=ONE_EPOCH),
        ranker=replace(EMBEDDING.ranker, loop=replace(EMBEDDING.ranker.loop, epochs=1)),
    ),
}
OLD_VERSION = 0
# The arguments of an audit event that name what it changes.
_CHANGED = {
    "os.rename": (0, 1), "os.link": (1,), "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,),
    "os.truncate": (0,), "os.symlink": (1,),
}  # fmt: skip


@dataclass
class Watch:
    """The changes that this process makes below a folder, each told before it happens."""

    root: Path
    tell: Any
    changes: list[tuple[str, Path]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_on: bool = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            paths = [path] if flags & (O_WRONLY | O_RDWR) else []
        else:
            paths = [arguments[i] for i in _CHANGED.get(event, ())]
        named = [Path(str(path)) for path in paths if isinstance(path, str | Path)]
        named = [path for path in named if path.is_relative_to(self.root)]
        if not named:
            return
        self.is_on = False
        try:
            self.changes += [(event, path.relative_to(self.root)) for path in named]
            self.tell()
        except Exception as error:
            self.problems.append(f"before {event} of {named}: {error!r}")
        finally:
            self.is_on = True


@contextmanager
def watched(root: Path, tell: Any) -> Iterator[Watch]:
    watch = Watch(root, tell)
    sys.addaudithook(watch.hook)  # it cannot be taken away, only turned off
    watch.is_on = True
    try:
        yield watch
    finally:
        watch.is_on = False


def found(workspace: Workspace, family: str) -> TrainedState:
    """The state that a process would open now, its files compared with their hashes."""
    version = read_json(folder_of(workspace, family) / STATE_FILE)["version"]
    with opened(workspace, family, version) as state:
        return state


def tree(root: Path, besides: Path) -> dict[str, bytes]:
    """All files below a folder but those of another one, and locks."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_relative_to(besides) and path.suffix != ".lock"
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("shop")
    workspace = tastes_shop(root, num_customers=45)
    language_shop.small_shop(root)
    return workspace


def test_every_family_is_watched() -> None:
    assert CONFIGS.keys() == {family.name for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_replaces_all_that_it_trained_in_one_step(shop: Workspace, family: Family) -> None:
    name, folder = family.name, folder_of(shop, family.name)
    with training(shop, name) as run, run.saved(OLD_VERSION, {}, {"is": "old"}, {}) as weights:
        (weights / "weights").write_text("old")
    (folder / "weights-of-a-killed-run").mkdir()
    (folder / "weights-of-a-killed-run" / "half").write_text("half")
    before = tree(shop.root, folder)
    seen: list[TrainedState] = []
    with watched(shop.root, lambda: seen.append(found(shop, name))) as watch:
        family.train(shop, CONFIGS[name], lambda _: None)

    assert watch.problems == []
    swaps = [n for n, (event, path) in enumerate(watch.changes) if _is_swap(shop, folder, event, path)]
    assert len(swaps) == 1, "the pointer is renamed once"
    (swap,) = swaps
    steps = [state.version for state in seen]
    assert OLD_VERSION in steps and steps == sorted(steps, key=lambda version: version != OLD_VERSION)
    assert all(state.facts == {"is": "old"} for state in seen if state.version == OLD_VERSION)
    own, locks = folder.relative_to(shop.root), {f".{name}.lock", ".change.lock"}
    outside = {str(path) for _, path in watch.changes if not path.is_relative_to(own)}
    assert {path for path in outside if Path(path).name not in locks | {"checkpoints"}} == set()
    assert tree(shop.root, folder) == before
    late = [path for event, path in watch.changes[swap + 1 :] if event in ("open", "os.rename", "os.link")]
    assert [path for path in late if path.suffix != ".lock"] == [], "nothing is written after the swap"
    _is_whole(shop, name, found(shop, name))


def _is_swap(shop: Workspace, folder: Path, event: str, path: Path) -> bool:
    return event == "os.rename" and shop.root / path == folder / STATE_FILE


def _is_whole(shop: Workspace, name: str, state: TrainedState) -> None:
    """The state lists all files that there are, and nothing else is left."""
    with opened(shop, name, state.version) as same:
        assert same == state and state.version != OLD_VERSION and state.files
    on_disk = {str(p.relative_to(state.folder)) for p in state.folder.rglob("*") if p.is_file()}
    assert on_disk == {entry.path for entry in state.files}
    assert {path.name for path in state.folder.parent.iterdir()} == {STATE_FILE, state.folder.name}
