"""Staging of a release: every model is copied or linked into a folder that Triton does not read."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from shopsight import serving
from shopsight.serving.confined import inside, is_regular_file
from shopsight.serving.contract import (
    CONTRACT_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    ContractError,
    Golden,
    ModelContract,
    file_entry,
    read_goldens,
)
from shopsight.serving.durable import copy_file, flush_tree, link_file, write_new
from shopsight.serving.golden import to_array
from shopsight.serving.release import STAGING_FOLDER, Release, ReleasedModel, ReleaseError, staged_folder
from shopsight.serving.triton_config import (
    CONFIG_FILE,
    parse_config,
    read_config,
    render_member_config,
    warmup_files,
)

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
    lasting: Release | None,
    pins: int | None = None,
) -> Release:
    """Stage the models of `sources` as release `number`; returns its manifest, not yet written.

    `lasting` is the previous release if its files are intact: it stays loaded beside this one, and a file of
    it with the same SHA-256 is hard-linked instead of copied. With `pins`, the sources are an earlier
    release's folders, and all files are linked.
    """
    contracts = {name: ModelContract.read(folder) for name, folder in sources.items()}
    versions = _versions(number, contracts, repository, lasting)
    models = {}
    for name, source in sources.items():
        target = staged_folder(repository, name)
        target.mkdir(parents=True)
        if pins is None:
            _copy_exported(source, target, contracts[name], _known_files(repository, name, lasting))
            config = _config(target, contracts[name])
        else:
            config = read_config(source / CONFIG_FILE)
            _link_all(source, target)
        config.version_policy.specific.versions[:] = versions[name]
        write_new(target / CONFIG_FILE, str(text_format.MessageToString(config)).encode())
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
    optional = [name for name in (GOLDEN_FILE, METRICS_FILE) if is_regular_file(source / name)]
    paths = [CONTRACT_FILE, *optional, *(entry.path for entry in contract.files)]
    for path in paths:
        if not is_regular_file(inside(source, *path.split("/"))):
            raise ReleaseError(
                f"{source / path}: named by the contract but missing; export {contract.name} again"
            )
    for path in dict.fromkeys(paths):
        entry = file_entry(source, path)
        if entry.sha256 in known:
            link_file(known[entry.sha256], target / path)
        else:
            copy_file(source / path, target / path)


def _config(target: Path, contract: ModelContract) -> Any:
    """Return the configuration of a staged model, and write the files that it needs."""
    if contract.kind == "router":
        checked_in = routers_folder() / contract.name
        for file in (ROUTER_FILE, CONFIG_FILE):
            if not (checked_in / file).is_file():
                raise ReleaseError(
                    f"{checked_in / file}: missing; name the folder of the routers in ${ROUTERS_VARIABLE}"
                )
        copy_file(checked_in / ROUTER_FILE, target / ROUTER_FILE)
        return read_config(checked_in / CONFIG_FILE)
    warmup = _warmup(target)
    rendered = render_member_config(contract, warmup=warmup)
    for path, content in (warmup_files(warmup) if warmup else {}).items():
        (target / path).parent.mkdir(exist_ok=True)
        write_new(target / path, content)
    return parse_config(rendered)


def _warmup(target: Path) -> Golden | None:
    """Return the first golden request, None if there is no readable one; the gate then reports why."""
    try:
        golden = read_goldens(target)[0]
        for tensor in golden.request:
            to_array(tensor)
        return golden
    except (ContractError, IndexError):
        return None


def _link_all(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file() and path != source / CONFIG_FILE:
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

    Normally the previous one and this one. `config.pbtxt` is shared by all versions: a model whose tensors
    changed cannot be served at the previous release, nor can that release's routers that call it.
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
    """Remove all staged models, and model folders that are then empty."""
    for staged in repository.glob(f"*/{STAGING_FOLDER}"):
        if staged.parent.is_symlink():
            continue
        if staged.is_symlink():
            staged.unlink()
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds other versions
            staged.parent.rmdir()
