"""The bounds that callers read about are those that are checked."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from shopsight.serving.contract import ModelContract
from shopsight.serving.routing.limits import MAX_REQUEST_BYTES, MAX_REQUEST_ID_BYTES
from shopsight.serving.routing.tensors import MAX_BATCH_SIZE, ROUTERS
from tests.serving.tiny_models import TinyShop

PAGE = Path(__file__).resolve().parents[2] / "docs" / "requests.md"


@pytest.mark.parametrize("model", list(ROUTERS))
def test_contracts_state_the_bounds_of_every_input(model: str, tmp_path: Path) -> None:
    contract = ModelContract.read(TinyShop(seed=1).write(tmp_path, (model,)) / model)
    for read, ours in zip(contract.inputs, ROUTERS[model].inputs, strict=True):
        assert read.name == ours.name
        stated, checked = ({} if one.bounds is None else asdict(one.bounds) for one in (read, ours))
        assert stated == pytest.approx(checked), "whole numbers are read as floating point ones"
        stated_elsewhere = read.name in ("TEXT", "PERSONALISED")
        assert stated_elsewhere or (read.bounds is not None and any(asdict(read.bounds).values()))


def test_the_page_tells_every_bound() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for model, router in ROUTERS.items():
        for spec in router.inputs:
            if spec.bounds is None:
                continue
            (told,) = [row for row in rows if f"`{spec.name}`" in row.split("|")[1]]
            assert f"`{model}`" in told
            numbers = {float(number) for number in re.findall(r"-?\d+(?:e\d+)?", told)}
            bounds = (spec.bounds.max_bytes, spec.bounds.minimum, spec.bounds.maximum)
            wanted = {float(b) for b in bounds if b is not None} if spec.name != "HISTORY_TIME" else {1, 9999}
            assert wanted <= numbers, told
            assert spec.bounds.max_values is None or f"{spec.bounds.max_values}" in told or "as many" in told
    assert f"from 1 to {MAX_BATCH_SIZE} rows" in page
    assert f"at most {MAX_REQUEST_BYTES} bytes" in page
    assert f"at most {MAX_REQUEST_ID_BYTES} bytes" in page
