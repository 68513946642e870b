"""Forgets customers: everywhere at once, for good, with a receipt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from serving.durable import write_text
from serving.forgotten import FORGOTTEN_FILE, Forgotten, Tombstone
from serving.pseudonym import PseudonymKey
from serving.repository import republish
from serving.undo import ModelServer
from training.data.tables import snapshot_sha256
from training.privacy import places
from training.privacy.artefacts import erase_people
from training.privacy.people import Person, find_person
from training.privacy.renew import renew_model, renew_workspace
from training.workspace import Workspace

FORMAT_VERSION = 1
RECEIPTS = "receipts"
Progress = Callable[[str], None]


class NotForgotten(RuntimeError):  # noqa: N818 - reads as what happened
    """Traces of a customer were left; the message names the files. Tombstones hold all the same."""


@dataclass(frozen=True)
class Repository:
    """A model repository that served the workspace's models, with its server where one runs."""

    path: Path
    server: ModelServer | None = None


@dataclass(frozen=True)
class Receipt:
    """What was erased where: rows by table, file and model, new releases by repository.

    unknown: how many of the ids no table knew; they have tombstones too. learned_before: families whose
    trained weights still carry what was learned from everybody together, until they are trained again.
    """

    forgotten_at: str
    key_id: str
    customer_ids: tuple[str, ...]
    num_ids: int
    unknown: int
    erased: dict[str, int]
    releases: dict[str, list[int]]
    learned_before: tuple[str, ...]
    snapshot_sha256: str
    format_version: int = FORMAT_VERSION


def forget(
    workspace: Workspace,
    key: PseudonymKey,
    source: str,
    source_ids: Sequence[str],
    repositories: Sequence[Repository] = (),
    progress: Progress = lambda _: None,
) -> Receipt:
    """Erase the customers who have these raw ids in `source` and return the receipt, also written.

    Tombstones come first: from then on ingest, training and serving obey, even if this is killed; the same
    call again then finishes the work. Tables, quarantine, checkpoints, exported models and every kept release
    follow; what remains is searched for at the end. Raises NotForgotten naming files with traces.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    renew_workspace(workspace, key)
    people = _people(workspace, key, source, source_ids)
    trained = tuple(sorted(path.name for path in workspace.checkpoints.glob("[!.]*")))
    unknown = sum(not person.customer_ids for person in people)
    stones = [Tombstone(p.customer_ids, p.pseudonyms, key.key_id, now) for p in people]
    for folder in (workspace.root, *(repository.path for repository in repositories)):
        if folder.is_dir():
            Forgotten.read(folder).joined(Forgotten(stones)).write(folder)
    progress(
        f"{len(source_ids):,} ids are {len(people):,} people, {unknown:,} of them unknown; tombstones lie"
    )
    erased = {f"tables/{n}": rows for n, rows in places.erase_tables(workspace, people).items() if rows}
    if refused := places.erase_quarantine(workspace, people, key, source_ids):
        erased["quarantine"] = refused
    erased |= places.erase_files(workspace, people) | places.erase_models(workspace, people)
    progress(f"removed {sum(erased.values()):,} rows from {len(erased)} places of the workspace")
    releases = {
        str(r.path): _erase_releases(r, people, key, progress) for r in repositories if r.path.is_dir()
    }
    receipt = Receipt(
        forgotten_at=now,
        key_id=key.key_id,
        customer_ids=tuple(places.whose(people)),
        num_ids=len(source_ids),
        unknown=unknown,
        erased=erased,
        releases=releases,
        learned_before=trained,
        snapshot_sha256=snapshot_sha256(workspace.tables),
    )
    _search(workspace, repositories, people)
    _write(workspace, receipt)
    return receipt


def _people(workspace: Workspace, key: PseudonymKey, source: str, source_ids: Sequence[str]) -> list[Person]:
    """The people behind the ids, each once; with what an earlier, unfinished call had found of them."""
    known = {pair: stone for stone in Forgotten.read(workspace.root).tombstones for pair in stone.pseudonyms}
    people = []
    for source_id in source_ids:
        stone = known.get((source, key.pseudonym(source, source_id)))
        if stone is not None:
            people.append(Person(stone.customer_ids, stone.pseudonyms))
        else:
            people.append(find_person(workspace, key, source, source_id))
    return list(dict.fromkeys(people))


def _erase_releases(
    repository: Repository, people: Collection[Person], key: PseudonymKey, progress: Progress
) -> list[int]:
    hashes = [pseudonym for person in people for _, pseudonym in person.pseudonyms]

    def rewrite(_: str, folder: Path) -> None:
        renew_model(folder, key)
        erase_people(folder, places.whose(people), hashes)

    made = republish(repository.path, rewrite, server=repository.server, progress=progress)
    return [release.number for release in made]


def _search(workspace: Workspace, repositories: Sequence[Repository], people: Collection[Person]) -> None:
    folders = [workspace.tables, workspace.quarantine, workspace.checkpoints, workspace.models]
    found = places.traces([*folders, workspace.reports, *(r.path for r in repositories)], people)
    left = [str(path) for path in found if path.name != FORGOTTEN_FILE]
    if left:
        raise NotForgotten(
            f"traces are left in {', '.join(left)}; tombstones hold, remove or make these files again"
        )


def _write(workspace: Workspace, receipt: Receipt) -> None:
    folder = workspace.root / RECEIPTS
    folder.mkdir(mode=0o700, exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("forget-*.json"))
    text = json.dumps(asdict(receipt), indent=1, sort_keys=True) + "\n"
    write_text(folder / f"forget-{number:04d}.json", text)
