"""The serving benchmark measures every endpoint of a real release and says under which conditions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving_load import ENDPOINTS, measure
from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from shopsight.serving.release import ReleaseError
from shopsight.serving.repository import publish
from tests.serving.tiny_models import KEY, TinyShop

COLUMNS = {"bench", "case", "peer", "metric", "ours", "theirs", "ratio", "p20", "p80", "unit"}
CONDITIONS = {"device", "versions", "commit", "date", "command"}


@pytest.mark.triton
def test_rows_cover_every_endpoint_and_concurrency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = tmp_path / "key.json"
    key_file.write_text(json.dumps({"key_id": KEY.key_id, "secret": KEY.secret.hex()}))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file))
    publish(TinyShop(seed=3).write(tmp_path / "models"), tmp_path / "repository")
    rows = measure(tmp_path / "repository", round_seconds=0.1, concurrency=(1, 4))
    cases = {(row["case"], row["metric"]) for row in rows}
    assert cases == {
        (f"{model}, concurrency {clients}", metric)
        for model in ENDPOINTS
        for clients in (1, 4)
        for metric in ("latency_p50", "latency_p99", "throughput")
    }
    for row in rows:
        assert set(row) == COLUMNS | CONDITIONS
        assert 0 < row["p20"] <= row["ours"] <= row["p80"]
    assert not (tmp_path / "repository" / ".server.json").exists()


def test_a_repository_without_a_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="shopsight publish"):
        measure(tmp_path)
