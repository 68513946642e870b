"""Every estimator is called with what scikit-learn and cuML both accept, and read where both answer.

cuML computes nothing without a GPU, so its side is held as data: the signatures of cuML 26.10.0, read by
import. Where cuML is installed, the data are compared with it.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shopsight.kernels.backend import estimators
from tests.kernels.rapids import NO_RAPIDS, RAPIDS_PYTHON

ROOT = Path(__file__).resolve().parents[2]

# Keyword arguments of the constructors, by class.
CUML_26_10 = {
    "KMeans": "n_clusters max_iter tol verbose random_state init n_init oversampling_factor "
    "max_samples_per_batch device_buffer_samples init_size output_type",
    "HDBSCAN": "min_cluster_size min_samples cluster_selection_epsilon max_cluster_size metric alpha p "
    "cluster_selection_method allow_single_cluster gen_min_span_tree verbose output_type prediction_data "
    "build_algo build_kwds device_ids",
    "PCA": "copy iterated_power n_components svd_solver tol verbose whiten output_type",
    "TruncatedSVD": "algorithm n_components n_iter random_state tol verbose output_type",
    "NearestNeighbors": "n_neighbors radius algorithm metric p algo_params metric_params n_jobs verbose "
    "output_type",
    "UMAP": "n_neighbors n_components metric metric_kwds n_epochs learning_rate min_dist spread "
    "set_op_mix_ratio local_connectivity repulsion_strength negative_sample_rate transform_queue_size init a "
    "b target_n_neighbors target_weight target_metric hash_input random_state force_serial_epochs "
    "precomputed_knn callback build_algo build_kwds device_ids verbose output_type",
}
# What is read of a fitted estimator.
ATTRIBUTES = {
    "KMeans": ["cluster_centers_"],
    "HDBSCAN": ["labels_"],
    "PCA": ["components_", "explained_variance_ratio_", "mean_"],
}
# Values of which both know the meaning.
SHARED_VALUES = {
    ("PCA", "svd_solver"): {"auto", "full"},
    ("HDBSCAN", "cluster_selection_method"): {"eom", "leaf"},
    ("HDBSCAN", "metric"): {"euclidean"},
}
# umap-learn 0.5.12 has every argument of cuML's UMAP but these.
NOT_IN_UMAP_LEARN = {
    "callback", "hash_input", "build_algo", "build_kwds", "device_ids", "output_type", "precomputed_knn",
    "force_serial_epochs",
}  # fmt: skip


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Where an estimator is made: file and line, class, call."""
    for path in sorted((ROOT / "training").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            of_backend = isinstance(node.func, ast.Attribute) and node.func.attr in CUML_26_10
            if of_backend and "estimators" in ast.dump(node.func):
                yield where, node.func.attr, node  # type: ignore[union-attr]
            elif isinstance(node.func, ast.Name) and node.func.id == "estimator":
                yield where, "UMAP", node


CALLS = list(_calls())


def test_the_calls_are_found() -> None:
    assert {name for _, name, _ in CALLS} >= {"KMeans", "PCA", "HDBSCAN", "UMAP"}


@pytest.mark.parametrize(("where", "name", "call"), CALLS, ids=[f"{w} {n}" for w, n, _ in CALLS])
def test_arguments_are_accepted_by_both_libraries(where: str, name: str, call: ast.Call) -> None:
    assert not call.args, f"{where}: cuML's arguments are keywords only"
    given = {keyword.arg for keyword in call.keywords}
    assert given <= set(CUML_26_10[name].split()), f"{where}: not in cuML's {name}"
    if name == "UMAP":
        assert not given & NOT_IN_UMAP_LEARN
    else:
        assert given <= set(inspect.signature(getattr(estimators("cpu"), name)).parameters)
    for keyword in call.keywords:
        allowed = SHARED_VALUES.get((name, keyword.arg or ""))
        if allowed is not None:
            assert isinstance(keyword.value, ast.Constant) and keyword.value.value in allowed, where


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn, an extra, is not installed")
def test_umap_learn_has_the_arguments_that_we_count_on() -> None:
    from umap import UMAP

    assert set(CUML_26_10["UMAP"].split()) - NOT_IN_UMAP_LEARN <= set(inspect.signature(UMAP).parameters)


@pytest.mark.parametrize(
    ("name", "arguments"), [("KMeans", {"n_clusters": 2}), ("HDBSCAN", {}), ("PCA", {"n_components": 1})]
)
def test_a_fitted_estimator_has_what_is_read_of_it(name: str, arguments: dict[str, int]) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    fitted = getattr(estimators("cpu"), name)(**arguments).fit(rows)
    assert all(hasattr(fitted, attribute) for attribute in ATTRIBUTES[name])


_ASK_CUML = f"""
import inspect, json
from cuml.cluster import HDBSCAN, KMeans
from cuml.decomposition import PCA, TruncatedSVD
from cuml.manifold import UMAP
from cuml.neighbors import NearestNeighbors
classes = (KMeans, HDBSCAN, PCA, TruncatedSVD, NearestNeighbors, UMAP)
signatures = {{c.__name__: list(inspect.signature(c).parameters) for c in classes}}
read = {ATTRIBUTES!r}
missing = [(c.__name__, a) for c in classes for a in read.get(c.__name__, ()) if not hasattr(c, a)]
print(json.dumps([signatures, missing]))
"""


@pytest.mark.skipif(RAPIDS_PYTHON is None, reason=NO_RAPIDS)
def test_what_is_recorded_of_cuml_is_so() -> None:
    done = subprocess.run([RAPIDS_PYTHON, "-c", _ASK_CUML], capture_output=True, text=True, check=True)
    signatures, missing = json.loads(done.stdout)
    assert {name: set(signatures[name]) for name in signatures} == {
        name: set(arguments.split()) for name, arguments in CUML_26_10.items()
    }
    assert not missing
