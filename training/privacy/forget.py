"""Erases customers from the workspace and the released models, and writes a receipt."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.contract import read_json
from shopsight.serving.durable import write_text
from shopsight.serving.forgotten import FORGOTTEN_FILE, Forgotten, Tombstone
from shopsight.serving.progress import Progress
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.release import releases
from shopsight.serving.repository import republish
from shopsight.serving.undo import ModelServer
from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.trained_state import is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.phrases import Phrase
from shopsight.training.data.forgetting import word_hash
from shopsight.training.pipeline.families import NAMES
from shopsight.training.privacy import places
from shopsight.training.privacy.artefacts import drop_quotes, erase_people, quotes_messages
from shopsight.training.privacy.mentions import Mention, mask_mentions, mentions, names_of, with_initials
from shopsight.training.privacy.people import Person, accounts_of, find_people
from shopsight.training.privacy.renew import renew_model, renew_workspace

FORMAT_VERSION = 1
RECEIPTS = "receipts"


class NotForgotten(RuntimeError):  # noqa: N818 - reads as what happened
    """Traces of a customer were left; the message names the files. The tombstones are in force."""


@dataclass(frozen=True)
class Repository:
    """A model repository that served the workspace's models, with its server where one runs."""

    path: Path
    server: ModelServer | None = None


class UnknownIdsError(LookupError):
    """Some of the given ids are unknown; nothing was changed."""


@dataclass(frozen=True)
class Plan:
    """What `forget` would do, determined without changes.

    people: the customers of the ids. pending: those of them with remaining data. unknown: the given ids
    without a customer. accounts: (source, source_id as keyed hash, customer_id, rule, score, valid_from,
    initials) of the accounts to erase. rows: rows to erase, by place. releases: number of kept releases, by
    repository; each is published again. mentions: texts of others that name the customers, None if no ingest
    stored the names of the accounts.
    """

    people: tuple[Person, ...]
    pending: tuple[Person, ...]
    unknown: tuple[str, ...]
    accounts: pl.DataFrame
    rows: dict[str, int]
    releases: dict[str, int]
    phrases: tuple[Phrase, ...] = field(repr=False)
    mentions: tuple[Mention, ...] | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data, without names and unknown ids."""
        return {
            "people": [asdict(person) for person in self.people],
            "already_forgotten": len(self.people) - len(self.pending),
            "unknown": len(self.unknown),
            "accounts": self.accounts.to_dicts(),
            "rows": self.rows,
            "releases": self.releases,
            "mentions": None if self.mentions is None else [asdict(one) for one in self.mentions],
        }


@dataclass(frozen=True)
class Receipt:
    """What was erased where: rows by table, file and model, new releases by repository.

    accounts: how many, by source and by the rule that had joined them to the customer. unknown: how many of
    the ids were unknown and skipped. mentions: number of texts of others that name them, None if these could
    not be searched. masked: whether they are masked there, also when the texts are ingested again.
    learned_before: families whose weights were trained with their data, until the next training.
    """

    forgotten_at: str
    key_id: str
    customer_ids: tuple[str, ...]
    num_ids: int
    unknown: int
    accounts: dict[str, int]
    erased: dict[str, int]
    releases: dict[str, list[int]]
    mentions: int | None
    masked: bool
    learned_before: tuple[str, ...]
    snapshot_sha256: str
    format_version: int = FORMAT_VERSION


def look(
    workspace: Workspace,
    key: PseudonymKey,
    source: str,
    source_ids: Sequence[str],
    repositories: Sequence[Repository] = (),
) -> Plan:
    """Find the customers of these raw ids in `source` and what `forget` would erase; changes nothing.

    Raises UnknownSourceError for a source that the workspace does not know.
    """
    found = find_people(workspace, key, source, source_ids)
    pending = tuple(p for p in found.people if not _is_done(workspace, p, repositories))
    phrases = names_of(workspace, pending, key)
    return Plan(
        found.people,
        pending,
        found.unknown,
        with_initials(workspace, accounts_of(workspace, key, pending), pending, key),
        places.held_rows(workspace, pending, key) if pending else {},
        {str(r.path): len(releases(r.path)) for r in repositories if _knows(r.path, pending)},
        phrases or (),
        None if phrases is None else mentions(workspace, pending, phrases, key),
    )


def forget(
    workspace: Workspace,
    key: PseudonymKey,
    source: str,
    source_ids: Sequence[str],
    repositories: Sequence[Repository] = (),
    progress: Progress = lambda _: None,
    *,
    skip_unknown: bool = False,
    mask: bool = False,
) -> Receipt:
    """Erase the customers with these raw ids in `source`; writes and returns the receipt.

    Tombstones are written first: from then on ingest, training and serving obey them, even after a kill, and
    the same call then finishes the work. Tables, quarantine, checkpoints, exported models and every kept
    release follow, and a final search looks for traces. mask: also mask texts of others that name them, now
    and at every later ingest. If all of them were erased before, nothing is changed.

    Raises UnknownSourceError, and UnknownIdsError for unknown ids unless skip_unknown, both before any
    change; NotForgotten naming files with traces.
    """
    plan = look(workspace, key, source, source_ids, repositories)
    if not plan.people or (plan.unknown and not skip_unknown):
        raise UnknownIdsError(
            f"{len(plan.unknown)} of {len(source_ids)} ids are not known in source '{source}'; nothing was "
            "touched: correct them, or pass over them with skip_unknown where others are known"
        )
    receipt = _receipt_of(workspace, key, plan, len(source_ids), mask=mask)
    if not plan.pending:
        return receipt
    renew_workspace(workspace, key)
    _bury(workspace, key, plan, repositories, receipt.forgotten_at, mask=mask)
    progress(f"{len(source_ids):,} ids are {len(plan.pending):,} people; tombstones written")
    texts = places.own_texts(workspace, plan.pending)
    if mask:  # first, because what is erased takes the earlier parts of the tables with it
        mask_mentions(workspace, plan.phrases)
    erased = places.erase_rows(workspace, plan.pending, key)
    progress(f"removed {sum(erased.values()):,} rows from {len(erased)} places of the workspace")
    made = {
        str(r.path): _erase_releases(r, plan.pending, key, progress)
        for r in repositories if str(r.path) in plan.releases
    }  # fmt: skip
    receipt = replace(
        receipt, erased=erased, releases=made, snapshot_sha256=snapshot_sha256(workspace.tables)
    )
    _search(workspace, repositories, plan.pending, texts)
    _write(workspace, receipt)
    return receipt


def _receipt_of(workspace: Workspace, key: PseudonymKey, plan: Plan, num_ids: int, *, mask: bool) -> Receipt:
    """Return the receipt of a plan before anything is erased."""
    return Receipt(
        forgotten_at=datetime.now(UTC).isoformat(timespec="seconds"),
        key_id=key.key_id,
        customer_ids=tuple(places.whose(plan.people)),
        num_ids=num_ids,
        unknown=len(plan.unknown),
        accounts=_by_rule(plan.accounts),
        erased={},
        releases={},
        mentions=None if plan.mentions is None else len(plan.mentions),
        masked=mask,
        learned_before=tuple(family for family in NAMES if is_trained(workspace, family)),
        snapshot_sha256=snapshot_sha256(workspace.tables),
    )


def _bury(
    workspace: Workspace,
    key: PseudonymKey,
    plan: Plan,
    repositories: Sequence[Repository],
    now: str,
    *,
    mask: bool,
) -> None:
    """Write the tombstones, in the workspace and in every repository."""
    phrases = [(p.kind, tuple(word_hash(key, word) for word in p.words)) for p in plan.phrases if mask]
    stones = [Tombstone(p.customer_ids, p.pseudonyms, key.key_id, now, tuple(phrases)) for p in plan.pending]
    for folder in (workspace.root, *(repository.path for repository in repositories)):
        if folder.is_dir():
            Forgotten.read(folder).joined(Forgotten(stones)).write(folder)


def _is_done(workspace: Workspace, person: Person, repositories: Sequence[Repository]) -> bool:
    """Return whether a receipt records this person's erasure, and no data of theirs is left on disk."""
    stones = Forgotten.read(workspace.root).tombstones
    if not any(stone.pseudonyms == person.pseudonyms for stone in stones):
        return False
    receipts = [read_json(path) for path in (workspace.root / RECEIPTS).glob("forget-*.json")]
    told = {customer_id for receipt in receipts for customer_id in receipt["customer_ids"]}
    return bool(person.customer_ids) and told.issuperset(person.customer_ids) and not _left(
        workspace, repositories, [person]
    )  # fmt: skip


def _by_rule(accounts: pl.DataFrame) -> dict[str, int]:
    counted = accounts.group_by("source", "rule").len().sort("source", "rule")
    return {f"{source}: {rule}": num for source, rule, num in counted.iter_rows()}


def _erase_releases(
    repository: Repository, people: Collection[Person], key: PseudonymKey, progress: Progress
) -> list[int]:
    hashes = [pseudonym for person in people for _, pseudonym in person.pseudonyms]

    def rewrite(_: str, folder: Path) -> None:
        renew_model(folder, key)
        erase_people(folder, places.whose(people), hashes)
        drop_quotes(folder)

    made = republish(repository.path, rewrite, server=repository.server, progress=progress)
    return [release.number for release in made]


def _knows(repository: Path, people: Collection[Person]) -> bool:
    """Return whether a kept release has rows of these people, or quotes messages that may be theirs."""
    if not people or not repository.is_dir():
        return False
    folders = [r.folder(repository, name) for r in releases(repository) for name in r.models]
    return any(quotes_messages(folder) or places.count_in(folder, people) for folder in folders)


def _search(
    workspace: Workspace,
    repositories: Sequence[Repository],
    people: Collection[Person],
    texts: Collection[str],
) -> None:
    if left := _left(workspace, repositories, people, texts):
        raise NotForgotten(
            f"traces are left in {', '.join(left)}; tombstones hold, remove or make these files again"
        )


def _left(
    workspace: Workspace,
    repositories: Sequence[Repository],
    people: Collection[Person],
    texts: Collection[str] = (),
) -> list[str]:
    """Return the files that still hold an id or pseudonym of these people, or one of their texts."""
    folders = [workspace.tables, workspace.quarantine, workspace.checkpoints, workspace.models]
    folders += [workspace.taught, workspace.reports, *(r.path for r in repositories)]
    found = places.traces(folders, people, texts)
    return [str(path) for path in found if path.name != FORGOTTEN_FILE]


def _write(workspace: Workspace, receipt: Receipt) -> None:
    folder = workspace.root / RECEIPTS
    folder.mkdir(mode=0o700, exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("forget-*.json"))
    text = json.dumps(asdict(receipt), indent=1, sort_keys=True) + "\n"
    write_text(folder / f"forget-{number:04d}.json", text)
