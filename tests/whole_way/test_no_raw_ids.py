"""After the whole way no file of a workspace, no model and no log has a raw id, mail address or phone."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopsight.serving.client import ShopsightClient
from shopsight.serving.server import TritonServer
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.sources.source import Source
from tests.waiting import HANG_SECONDS
from tests.whole_way.conftest import ServedShop

pytestmark = pytest.mark.triton

_SAMPLE = 60
_MAIL = re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")


def raw_accounts(source: Source) -> pl.DataFrame:
    """The account rows of one raw file as text, by our names of the columns."""
    path = source.base / source.path
    if path.suffix == ".csv":
        rows = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True)
    else:
        rows = pl.DataFrame(list(_objects(path)), infer_schema_length=None)
    named = {raw: ours for ours, raw in source.columns.items() if raw in rows.columns}
    return rows.select(pl.col(raw).cast(pl.String).alias(ours) for raw, ours in named.items())


def _objects(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


@pytest.fixture(scope="module")
def planted(served_shop: ServedShop) -> dict[str, list[str]]:
    """Ids, mail addresses and phones (their last nine digits) that the raw files hold; a sample of each."""
    sources = [s for s in load_sources(served_shop.raw / "sources.toml") if s.kind == "customers"]
    frames = [raw_accounts(source) for source in sources if not source.derived]
    rows = pl.concat(frames, how="diagonal")
    rng = np.random.default_rng(0)

    def some(values: pl.Series, shortest: int) -> list[str]:
        kept = values.drop_nulls().unique().sort()
        kept = kept.filter(kept.str.len_chars() >= shortest)
        assert kept.len() > _SAMPLE
        return list(rng.choice(kept.to_list(), _SAMPLE, replace=False))

    digits = rows["phone"].str.replace_all(r"[^0-9]", "").str.tail(9)
    mails = rows["email"].str.extract(r"([^\s]+@[^\s]+)").str.to_lowercase()
    return {"id": some(rows["source_id"], 8), "mail": some(mails, 8), "phone": some(digits, 9)}


def artefacts(workspace: Workspace) -> list[Path]:
    """Every file below the workspace but raw rows in the keeping of their owner: quarantine and intake."""
    private = (workspace.quarantine, workspace.intake)
    files = (path for path in sorted(workspace.root.rglob("*")) if path.is_file())
    return [path for path in files if not any(path.is_relative_to(folder) for folder in private)]


def content(path: Path) -> str:
    """What is in a file, compressed columns unpacked."""
    if path.suffix == ".parquet":
        texts = pl.read_parquet(path).select(pl.col(pl.String))
        return "\n".join("\n".join(column.drop_nulls()) for column in texts.iter_columns())
    return path.read_bytes().decode("latin-1")


def test_no_artefact_and_no_log_has_a_raw_identifier(
    served_shop: ServedShop, planted: dict[str, list[str]]
) -> None:
    workspace, known = served_shop.workspace, planted["id"]
    said = []
    for source_id in (
        known[0],
        "nobody-4711-of-ours",
    ):  # known or not, an id that was asked for is not logged
        done = served_shop.command("ask", "--source", "web", "--source-id", source_id,
                                   "--workspace", workspace.root, check=False)  # fmt: skip
        said.append(done.stdout + done.stderr)
    files = artefacts(workspace)
    suffixes = {path.suffix for path in files}
    assert {".parquet", ".safetensors", ".json", ".html", ".onnx"} <= suffixes and len(files) > 40
    wanted = [*planted["id"], *planted["mail"], *planted["phone"], "nobody-4711-of-ours"]
    for path in files:
        text = content(path).lower()
        found = [one for one in wanted if one.lower() in text]
        assert not found, (path.relative_to(workspace.root), found[:3])
        if path.is_relative_to(workspace.tables):
            assert not _MAIL.search(text), path.relative_to(workspace.root)
    for text in said:
        assert not any(one in text for one in wanted)


def test_what_holds_raw_rows_is_its_owner_s_alone(served_shop: ServedShop) -> None:
    for folder in (
        served_shop.workspace.quarantine,
        served_shop.workspace.intake,
        served_shop.workspace.tables,
    ):
        inside = [folder, *folder.rglob("*")]
        assert len(inside) > 1
        for path in inside:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_endpoint_answers_a_raw_id_without_repeating_it(
    served_shop: ServedShop, planted: dict[str, list[str]]
) -> None:
    server = TritonServer.attach(served_shop.workspace.repository)
    with ShopsightClient(server.grpc_url, deadline_seconds=HANG_SECONDS) as client:
        for source_id in planted["id"][:10]:
            assert source_id not in str(client.insight(source="web", source_id=source_id, k=3))
