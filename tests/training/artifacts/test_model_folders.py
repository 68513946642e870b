"""A model's folder appears whole or not at all, and its contract notices every change."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.contract import (
    ContractError,
    Golden,
    GoldenTensor,
    ModelContract,
    TensorSpec,
    read_goldens,
    write_goldens,
)
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, write_tables


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    write_tables(made.tables, {"answers": pl.DataFrame(schema=SCHEMAS["answers"])})
    return made


def _export(workspace: Workspace, content: str) -> ModelContract:
    with model_folder(workspace, "ranker") as folder:
        (folder / "model.onnx").write_text(content)
        return write_contract(
            folder, name="ranker", kind="onnx", files=["model.onnx"], max_batch_size=8,
            data_sha256=snapshot_sha256(workspace.tables),
            inputs=[TensorSpec("FEATURE", "FP32", (3,))], outputs=[TensorSpec("SCORE", "FP32", (1,))],
            config={"seed": 1},
        )  # fmt: skip


def test_a_contract_reads_back_as_written_and_names_data_and_code(workspace: Workspace) -> None:
    written = _export(workspace, "graph")
    read = ModelContract.read(workspace.models / "ranker")
    assert read == written
    assert len(read.data_sha256) == 64 and len(read.commit) == 40


def test_a_changed_file_is_noticed(workspace: Workspace) -> None:
    contract = _export(workspace, "graph")
    folder = workspace.models / "ranker"
    contract.verify_files(folder)
    (folder / "model.onnx").write_text("grapf")
    with pytest.raises(ContractError, match=r"model\.onnx: content differs"):
        contract.verify_files(folder)


def test_a_failed_export_leaves_the_earlier_one_and_nothing_else(workspace: Workspace) -> None:
    _export(workspace, "earlier")
    with pytest.raises(RuntimeError), model_folder(workspace, "ranker") as folder:
        (folder / "model.onnx").write_text("half")
        raise RuntimeError
    assert (workspace.models / "ranker" / "model.onnx").read_text() == "earlier"
    assert [path.name for path in workspace.models.iterdir()] == ["ranker"]


def test_goldens_read_back_as_written(tmp_path: Path) -> None:
    golden = Golden(
        request=(GoldenTensor("TEXT", "BYTES", (1,), ["退货 please"]),),
        answer=(GoldenTensor("CONFIDENCE", "FP32", (1,), [0.25]),),
        tolerance=1e-6,
    )
    write_goldens(tmp_path, [golden])
    assert read_goldens(tmp_path) == [golden]
