"""Hashes of all inputs of the tables, to find what changed since the last run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import SNAPSHOT_FILE, read_snapshot, snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.conventions import Convention
from shopsight.training.data.cleaning.goods import StatedGoods
from shopsight.training.data.identity.config import IdentityConfig
from shopsight.training.data.ingest_report import FileReport, IngestReport
from shopsight.training.data.intake import Intake
from shopsight.training.data.money import Currencies
from shopsight.training.data.quarantine import relative_name
from shopsight.training.data.reading.extent import Extent
from shopsight.training.data.reading.readers import files_of
from shopsight.training.data.sources.source import Source

_RELEASE = "the rules of this release"


def remembered(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the conventions of each path that values of earlier runs decided."""
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return {}
    known: dict[str, dict[str, Any]] = read_snapshot(workspace.tables)["note"].get("decided", {})
    return known


def hashed_inputs(
    sources: list[Source],
    intake: Intake,
    config: IdentityConfig,
    defaults: dict[str, bool],
    currencies: Currencies,
    stated: StatedGoods,
    key: PseudonymKey,
    rules: list[dict[str, Any]],
) -> dict[str, str]:
    """Return the hashes of all inputs of the tables by their displayed names."""
    usual = Convention()
    files = [[relative_name(s, path), intake.key(s, path, usual)] for s in sources for path in files_of(s)]
    told = {
        "the files or how they are read": files,
        "[identity]": asdict(config),
        "[consent_default]": defaults,
        "[currency]": currencies.as_dict(),
        "[goods]": asdict(stated),
        "the key of pseudonyms": key.key_id,
        "the rules of a review": rules,
    }
    hashes = {name: hashlib.sha256(json.dumps(value).encode()).hexdigest() for name, value in told.items()}
    # Vocabularies and presets lie beside the code and are as much a rule as it is.
    code = (p for p in sorted(Path(__file__).parent.rglob("*")) if p.suffix in (".py", ".toml"))
    hashes[_RELEASE] = hashlib.sha256(b"\0".join(path.read_bytes() for path in code)).hexdigest()
    return hashes


def inputs_before(workspace: Workspace) -> dict[str, str] | None:
    """What the present tables follow from; None without tables, empty for those of an earlier release."""
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return None
    inputs = read_snapshot(workspace.tables)["note"].get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def made_anew(before: dict[str, str] | None, inputs: dict[str, str]) -> list[str]:
    """Return why existing tables are rebuilt, as notes."""
    if before is None:
        return []
    changed = [name for name in inputs if before.get(name) != inputs[name]] if before else [_RELEASE]
    return [f"the tables are made anew, changed: {', '.join(changed)}"] if changed else []


def unchanged(workspace: Workspace) -> IngestReport | None:
    """The report of the last run, which read the same, if its tables are whole."""
    manifest = read_snapshot(workspace.tables)
    files = [workspace.tables / f["path"] for table in manifest["tables"].values() for f in table["files"]]
    report = manifest["note"].get("report")
    if not report or not all(map(Path.is_file, files)):
        return None
    if report["snapshot_sha256"] != snapshot_sha256(workspace.tables):
        return None
    read = tuple(_file_report(file) for file in report["files"])
    told = {name: tuple(report[name]) for name in ("notes", "unread")}
    return IngestReport(**{**report, "files": read, **told})


def _file_report(raw: dict[str, Any]) -> FileReport:
    return FileReport(**{**raw, "extent": Extent(**raw["extent"]) if raw["extent"] else None})
