"""Polars' cuDF engine takes the very query that measures features: it translates it without a GPU too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kernels.rapids import NO_RAPIDS, RAPIDS_PYTHON

ROOT = Path(__file__).resolve().parents[3]

_TRANSLATE = """
import cudf_polars.utils.config as config
import polars as pl
from cudf_polars.dsl.translate import Translator

from tests.training.small_shop import START, table
from shopsight.training.profiles.feature_list import shop_features
from shopsight.training.profiles.features import Tables, plan
from shopsight.training.profiles.spec import FeatureSpec

config.get_total_device_memory = lambda: 80 * 2**30  # it would ask the driver, which is not there
names = ("events", "items", "customers", "messages")
read = pl.LazyFrame(schema={"message_id": pl.String, "tone": pl.Float64, "intent": pl.String})
tables = Tables(*(table(name, []).lazy() for name in names), read)
channels, categories, half_lives, intents = ("web", "app"), ("Books", "Garden"), (7.0, 30.0), ("thanks",)
features = shop_features(channels, categories, half_lives, intents)
spec = FeatureSpec(features, channels, categories, intents, "EUR", half_lives)
refused = []

def translate(node, _):
    translator = Translator(node, pl.GPUEngine(raise_on_fail=True))
    translator.translate_ir()
    refused.append(translator.unsupported_operations_error())

plan(tables, spec, START).collect(post_opt_callback=translate)
assert refused == [None], refused
print("translated")
"""


@pytest.mark.skipif(RAPIDS_PYTHON is None, reason=NO_RAPIDS)
def test_every_expression_is_one_that_the_gpu_engine_knows() -> None:
    done = subprocess.run([RAPIDS_PYTHON, "-c", _TRANSLATE], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "translated", done.stderr[-3000:]
