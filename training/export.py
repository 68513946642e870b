"""How a trained model becomes a folder that serving can publish: staged, contracted, swapped in whole."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.contract import ModelContract, ModelKind, TensorSpec, file_entry
from training.data.tables import snapshot_sha256
from training.workspace import Workspace

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def model_folder(workspace: Workspace, name: str) -> Iterator[Path]:
    """Yield a staging folder that replaces `models/<name>` when the block ends without an exception."""
    with replaced_folder(workspace.models / name) as staging:
        yield staging


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Yield a staging folder that replaces `final` when the block ends without an exception.

    The staging folder lies on the same filesystem, so the swap is two renames; an exception leaves the
    earlier folder untouched and nothing behind.
    """
    parent, name = final.parent, final.name
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    try:
        yield staging
        staging.chmod(stat.S_IMODE(parent.stat().st_mode))  # who may read the models may read this one
        if final.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{name}-replaced-", dir=parent)) / name
            final.rename(replaced)
            staging.rename(final)
            shutil.rmtree(replaced.parent)
        else:
            staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_contract(
    folder: Path,
    *,
    workspace: Workspace,
    name: str,
    kind: ModelKind,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
    files: Sequence[str],
    calls: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> ModelContract:
    """Write `contract.json` for the files already in `folder` and return it.

    The snapshot of the tables and the commit of the code are taken from where they are; tensors are given
    without the batch dimension.
    """
    contract = ModelContract(
        name=name,
        kind=kind,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=max_batch_size,
        files=tuple(file_entry(folder, file) for file in files),
        calls=tuple(calls),
        preprocessing=dict(preprocessing or {}),
        config=dict(config or {}),
        data_sha256=snapshot_sha256(workspace.tables),
        commit=commit(),
    )
    contract.write(folder)
    return contract


def commit() -> str:
    """Return the commit of the code that runs, "" when it does not run from a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
