"""The int8 graph: smaller, nearly as right, calibrated for itself, and what it loses is written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from shopsight.serving.contract import METRICS_FILE, ModelContract, read_goldens, read_json
from shopsight.training import language
from tests.training.language_shop import SMALL, small_shop

TYPES = {"INT64": np.int64, "INT32": np.int32}


def test_an_int8_graph_is_smaller_and_says_what_it_loses(tmp_path: Path) -> None:
    workspace = small_shop(tmp_path)
    config = replace(SMALL, precision="int8")
    language.train(workspace, config, lambda _: None)
    language.evaluate(workspace, config)
    language.export(workspace, config)
    folder = workspace.models / "intent_encoder"
    told = read_json(folder / METRICS_FILE)["int8"]
    assert told["bytes_int8"] == (folder / "model.onnx").stat().st_size < 0.5 * told["bytes_float32"]
    for task in ("intent", "sentiment"):
        assert told[task]["accuracy_int8"] > told[task]["accuracy_float32"] - 0.03
        assert told[task]["told_the_same"] > 0.95


def test_its_goldens_are_what_it_says_itself(tmp_path: Path) -> None:
    workspace = small_shop(tmp_path)
    config = replace(SMALL, precision="int8", epochs=4)
    language.train(workspace, config, lambda _: None)
    language.export(workspace, config)
    folder = workspace.models / "intent_encoder"
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    for golden in read_goldens(folder):
        asked = {t.name: np.array(t.data, dtype=TYPES[t.datatype]) for t in golden.request}
        said = dict(zip(names, session.run(None, asked), strict=True))
        for tensor in golden.answer:
            assert said[tensor.name] == pytest.approx(np.array(tensor.data), abs=golden.tolerance)
    assert ModelContract.read(workspace.models / "understand").preprocessing["temperature"] > 0


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision is 'int4'; it must be one of float32, int8"):
        replace(SMALL, precision="int4")
