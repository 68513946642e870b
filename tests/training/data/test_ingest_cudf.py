"""Polars' cuDF engine takes the very queries that clean rows: it translates them without a GPU too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kernels.rapids import NO_RAPIDS, RAPIDS_PYTHON

ROOT = Path(__file__).resolve().parents[3]

_TRANSLATE = """
import sys, tempfile
from pathlib import Path

import cudf_polars.utils.config as config
import polars as pl
from cudf_polars.dsl.translate import Translator

config.get_total_device_memory = lambda: 80 * 2**30  # it would ask the driver, which is not there
refused, seen = [], 0
collect = pl.LazyFrame.collect


def translated(rows, *args, engine="auto", **kwargs):
    global seen
    if not isinstance(engine, pl.GPUEngine):
        return collect(rows, *args, engine=engine, **kwargs)

    def translate(node, _):
        translator = Translator(node, pl.GPUEngine(raise_on_fail=True))
        translator.translate_ir()
        if translator.unsupported_operations_error() is not None:
            refused.append(str(translator.unsupported_operations_error()))

    seen += 1
    return collect(rows, *args, post_opt_callback=translate, **kwargs)


pl.LazyFrame.collect = translated
from shopsight.kernels import backend

backend.polars_engine = lambda requested="auto": pl.GPUEngine(raise_on_fail=True)
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.events import directory, events_table, exposures_table
from shopsight.training.data.intake import Intake
from shopsight.training.data.cleaning.clocks import hourly
from shopsight.training.data.loading import load_all
from shopsight.training.data.cleaning.outliers import outliers
from shopsight.training.data.cleaning.returns import matched_returns
from shopsight.training.data.sources.load import load_sources

intake = Intake(Path(tempfile.mkdtemp()))
loaded = load_all(load_sources(Path(sys.argv[1])), intake, {}, print).parts
ids = pl.concat([part.ids() for part in loaded]).select("source", "source_id").unique()
people = directory(loaded, ids.with_columns(pl.col("source_id").alias("customer_id")))
known, key = pl.Series("item_id", ["A101"]), PseudonymKey("test", b"k" * 32)
parts = []
for make in (events_table, exposures_table):
    for bucket in make(loaded, people, known, key, intake.engine):
        parts.append(bucket.table)
events = parts[0].lazy()
matched_returns(events, intake.engine), outliers(events, intake.engine), hourly(events, intake.engine)
assert seen > 20, seen
assert refused == [], sorted(set(refused))
print("translated")
"""


@pytest.mark.skipif(RAPIDS_PYTHON is None, reason=NO_RAPIDS)
def test_every_expression_is_one_that_the_gpu_engine_knows() -> None:
    sources = ROOT / "tests" / "fixtures" / "messy_shop" / "sources.toml"
    command = [RAPIDS_PYTHON, "-c", _TRANSLATE, str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "translated", done.stderr[-6000:]
