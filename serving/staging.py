"""A release on its way: every model copied or linked into a folder that Triton does not look into."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import text_format

import serving
from serving.contract import (
    CONTRACT_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    ModelContract,
    file_entry,
    read_goldens,
    sha256_of,
)
from serving.durable import copy_file, flush_tree, link_file, write_bytes, write_text
from serving.release import STAGING_FOLDER, Release, ReleasedModel, ReleaseError, staged_folder
from serving.triton_config import CONFIG_FILE, read_config, render_member_config, warmup_files

ROUTERS_VARIABLE = "SHOPSIGHT_ROUTERS"
ROUTER_FILE = "model.py"


def routers_folder() -> Path:
    """Return the routers' folder: $SHOPSIGHT_ROUTERS, else `model_repository` beside `serving`.

    An installed package has it at the same place, beside `serving` in site-packages.
    """
    if named := os.environ.get(ROUTERS_VARIABLE):
        return Path(named)
    return Path(serving.__file__).resolve().parent.parent / "model_repository"


def stage(
    repository: Path,
    number: int,
    sources: Mapping[str, Path],
    previous: Release | None,
    pins: int | None = None,
) -> Release:
    """Stage the models of `sources` as release `number`; returns its manifest, not yet written.

    With `pins`, the sources are an earlier release's folders and are linked whole. A file that the previous
    release has with the same SHA-256 is linked to it instead of copied.
    """
    contracts = {name: ModelContract.read(folder) for name, folder in sources.items()}
    versions = _versions(number, contracts, repository, previous)
    models = {}
    for name, source in sources.items():
        target = staged_folder(repository, name)
        if pins is None:
            known = _known_files(repository, name, previous)
            _copy_exported(source, target, contracts[name], known)
        else:
            _link_all(source, target)
        config = read_config(target / CONFIG_FILE)
        config.version_policy.specific.versions[:] = versions[name]
        write_text(target / CONFIG_FILE, str(text_format.MessageToString(config)))
        paths = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
        models[name] = ReleasedModel(
            kind=contracts[name].kind,
            calls=contracts[name].calls,
            versions=tuple(versions[name]),
            files=tuple(file_entry(target, path) for path in paths),
        )
        flush_tree(target)
    return Release(
        number=number,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        previous=previous.number if previous else None,
        models=models,
        pins=pins,
    )


def _copy_exported(source: Path, target: Path, contract: ModelContract, known: Mapping[str, Path]) -> None:
    optional = [name for name in (GOLDEN_FILE, METRICS_FILE) if (source / name).is_file()]
    described = [file_entry(source, name) for name in (CONTRACT_FILE, *optional)]
    for entry in (*described, *contract.files):
        if not (source / entry.path).is_file():
            raise ReleaseError(
                f"{source / entry.path}: named by the contract but missing; export {contract.name} again"
            )
        earlier = known.get(entry.sha256)
        # A file that decayed on the disk since it was published is not handed on to the next release.
        if earlier is not None and earlier.is_file() and sha256_of(earlier) == entry.sha256:
            link_file(earlier, target / entry.path)
        else:
            copy_file(source / entry.path, target / entry.path)
    if contract.kind == "router":
        _copy_router(contract.name, target)
    else:
        _write_member_config(contract, target)


def _copy_router(name: str, target: Path) -> None:
    checked_in = routers_folder() / name
    for file in (ROUTER_FILE, CONFIG_FILE):
        if not (checked_in / file).is_file():
            raise ReleaseError(
                f"{checked_in / file}: missing; name the folder of the routers in ${ROUTERS_VARIABLE}"
            )
        copy_file(checked_in / file, target / file)


def _write_member_config(contract: ModelContract, target: Path) -> None:
    goldens = read_goldens(target) if (target / GOLDEN_FILE).is_file() else []
    warmup = goldens[0] if goldens else None
    for path, content in (warmup_files(warmup) if warmup else {}).items():
        (target / path).parent.mkdir(exist_ok=True)
        write_bytes(target / path, content)
    write_text(target / CONFIG_FILE, render_member_config(contract, warmup=warmup))


def _link_all(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            link_file(path, target / path.relative_to(source))


def _known_files(repository: Path, name: str, previous: Release | None) -> dict[str, Path]:
    if previous is None or name not in previous.models:
        return {}
    folder = previous.folder(repository, name)
    return {entry.sha256: folder / entry.path for entry in previous.models[name].files}


def _versions(
    number: int, contracts: Mapping[str, ModelContract], repository: Path, previous: Release | None
) -> dict[str, list[int]]:
    """Return at which releases each model is served once `number` is current.

    Normally the previous one and this one. `config.pbtxt` has no versions: a model whose tensors changed
    cannot be served at the previous release any more, nor can the routers of that release that reach it.
    """
    if previous is None:
        return {name: [number] for name in contracts}
    ended = {name for name in previous.models if not _serves_both(name, contracts, repository, previous)}
    while reached := {n for n, m in previous.models.items() if n not in ended and ended & set(m.calls)}:
        ended |= reached
    lasting = previous.models.keys() - ended
    return {name: [previous.number, number] if name in lasting else [number] for name in contracts}


def _serves_both(
    name: str, contracts: Mapping[str, ModelContract], repository: Path, previous: Release
) -> bool:
    if name not in contracts:
        return False
    earlier, later = ModelContract.read(previous.folder(repository, name)), contracts[name]
    return (earlier.kind, earlier.inputs, earlier.outputs, earlier.max_batch_size) == (
        later.kind,
        later.inputs,
        later.outputs,
        later.max_batch_size,
    )


def unstage(repository: Path) -> None:
    """Remove whatever is staged, and model folders that held nothing else."""
    for staged in repository.glob(f"*/{STAGING_FOLDER}"):
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds other versions
            staged.parent.rmdir()
