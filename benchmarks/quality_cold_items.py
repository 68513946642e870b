"""Items without any interaction: content learned from factors, beside popularity and a content k-NN.

    python -m benchmarks.quality_cold_items [--customers 20000] [--out FILE]

Protocol: a tenth of the items is withheld with all their interactions (drawn by the seed); the factorisation
is fitted to the rest and never sees them; asked are the users with a past among the known items and something
among the withheld ones; the withheld items alone are ranked; recall@20 divides by min(20, a user's withheld
items). Popularity of an item that nobody touched is the mean of what shares its attributes. The k-NN sums the
cosines of the weighed content (and, with pictures, of their pixels) over all items of the user. Settings were
tried on the draw of seed 0, which is not among the figures.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import sparse

from benchmarks.datasets import SHARED, file_sha256
from benchmarks.runner import RESULTS, commit, device_name, versions
from shopsight.training.evaluation.ranking import recall_at_k
from shopsight.training.recommend.content import ContentConfig, ContentFeatures, ContentModel
from shopsight.training.recommend.content.features import item_tokens
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization

SEEDS = (1, 2, 3)  # settings were tried on draw 0
K, COLD_SHARE = 20, 0.1
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """user_items CSR; tokens of each item; pictures float32 [items, 3, s, s] or None."""

    name: str
    user_items: sparse.csr_matrix
    tokens: list[list[str]]
    pictures: torch.Tensor | None
    sha256: str
    config: MFConfig
    content: ContentConfig


def beauty() -> Catalogue | None:
    """amazon_beauty_s3rec with its attributes."""
    folder = ("amazon_beauty_s3rec",)
    if not SHARED.joinpath(*folder).is_dir():
        return None
    with gzip.open(SHARED.joinpath(*folder, "Beauty.txt.gz"), "rt") as lines:
        rows = [[int(number) for number in line.split()] for line in lines]
    users = np.repeat([row[0] - 1 for row in rows], [len(row) - 1 for row in rows])
    items = np.concatenate([row[1:] for row in rows]) - 1
    with gzip.open(SHARED.joinpath(*folder, "Beauty_item2attributes.json.gz"), "rt") as stream:
        attributes = json.load(stream)
    tokens = [[f"fact {a}" for a in attributes.get(str(i + 1), [])] for i in range(items.max() + 1)]
    config = MFConfig(num_factors=256, unobserved_weight=0.1, regularization=0.003, num_epochs=8)
    digest = file_sha256(*folder, "Beauty.txt.gz")
    return Catalogue(
        "amazon_beauty_s3rec", _ones(users, items), tokens, None, digest, config, ContentConfig()
    )


def synthetic(num_customers: int, with_pictures: bool) -> Catalogue:
    """The synthetic shop: purchases and carts, titles, categories, attributes, and pictures if wanted."""
    from shopsight.training.data.images import ImageConfig, image_batches
    from shopsight.training.data.shop import ShopSpec, make_shop

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = ShopSpec(num_customers=num_customers, pictures=True, bad_row_share=0.0)
        make_shop(spec, folder / "raw", folder / "truth")
        read: dict[str, Any] = {
            "infer_schema": False,
            "encoding": "utf8-lossy",
            "truncate_ragged_lines": True,
        }
        items = pl.read_csv(folder / "raw" / "items.csv", **read).unique("sku", maintain_order=True)
        items = items.filter(pl.col("picture").is_not_null())
        lines = (
            pl.read_csv(folder / "raw" / "web_events.csv", **read).select("visitor_id", "sku").drop_nulls()
        )
        lines = lines.filter(pl.col("sku").is_in(items["sku"].implode()))
        digest = hashlib.sha256((folder / "raw" / "web_events.csv").read_bytes()).hexdigest()
        pictures = None
        if with_pictures:
            paths = [folder / "raw" / path for path in items["picture"]]
            pictures = torch.cat(list(image_batches(paths, ImageConfig(size=48), 256)))
    place = pl.DataFrame({"sku": items["sku"]}).with_row_index("column")
    who = lines["visitor_id"].cast(pl.Categorical).to_physical().to_numpy()
    column = lines.join(place, on="sku", how="left", maintain_order="left")["column"].to_numpy()
    facts = items.rename({"category": "category_path"})
    return Catalogue(
        f"synthetic shop of {num_customers:,}" + (", titles and pictures" if with_pictures else ", titles"),
        _ones(who, column),
        item_tokens(facts),
        pictures,
        digest,
        MFConfig(num_factors=64, unobserved_weight=0.1, regularization=0.01, num_epochs=8),
        ContentConfig(),
    )


def measure(data: Catalogue, seed: int) -> dict[str, float]:
    """Recall of every method for one draw of withheld items."""
    num_items = data.user_items.shape[1]
    drawn = np.random.default_rng(seed).permutation(num_items)
    cold = np.sort(drawn[: int(num_items * COLD_SHARE)])
    warm = np.setdiff1d(np.arange(num_items), cold)
    known = data.user_items.tolil()
    known[:, cold] = 0
    known = sparse.csr_matrix(known, dtype=np.float32)
    known.eliminate_zeros()
    count = np.asarray(known.sum(axis=0)).ravel()
    warm = warm[count[warm] > 0]
    wanted = data.user_items[:, cold].tocsr()
    asked = np.flatnonzero((np.diff(wanted.indptr) > 0) & (np.diff(known.indptr) > 0))
    factors = MatrixFactorization(data.config).fit(known)
    features = ContentFeatures.fit([data.tokens[i] for i in warm], data.content.num_buckets)
    rows = features.rows(data.tokens)
    model = ContentModel.fit(
        data.content, rows[warm], factors.item_factors[warm], count[warm], _some(data.pictures, warm)
    )
    predicted = model.predict(rows[cold], _some(data.pictures, cold))
    taste = known[asked]
    methods: dict[str, Callable[[], Scores]] = {
        "ours": lambda: factors.user_factors[asked] @ predicted.T,
        "popularity": lambda: np.tile(_popularity(rows, count, cold, warm), (len(asked), 1)),
        "content k-NN": lambda: _dense(taste @ _cosines(rows, data.pictures, cold)),
        "random": lambda: np.random.default_rng(seed).random((len(asked), len(cold))).astype(np.float32),
    }
    return {name: _recall(scores(), wanted[asked]) for name, scores in methods.items()} | {
        "num_users": float(len(asked)),
        "num_cold": float(len(cold)),
    }


def _cosines(rows: sparse.csr_matrix, pictures: torch.Tensor | None, cold: NDArray[Any]) -> Any:
    """Similarity of every item to the withheld ones, dense float32 [items, cold]."""
    similar = _dense(rows @ rows[cold].T)
    if pictures is not None:
        flat = pictures.flatten(1).numpy()
        flat = flat - flat.mean(axis=0)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        similar = similar + flat @ flat[cold].T
    return similar


def _popularity(rows: sparse.csr_matrix, count: Any, cold: Any, warm: Any) -> Scores:
    held = (rows[warm] > 0).astype(np.float64)
    mean = (held.T @ count[warm]) / np.maximum(np.asarray(held.sum(axis=0)).ravel(), 1)
    theirs = (rows[cold] > 0).astype(np.float64)
    return np.asarray(theirs @ mean / np.maximum(np.asarray(theirs.sum(axis=1)).ravel(), 1), np.float32)


def _recall(scores: Scores, wanted: sparse.csr_matrix) -> float:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return float(recall_at_k(order.astype(np.int32), wanted).mean())


def _some(pictures: torch.Tensor | None, chosen: NDArray[Any]) -> torch.Tensor | None:
    return None if pictures is None else pictures[torch.from_numpy(chosen)]


def _dense(matrix: Any) -> Scores:
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float32)


def _ones(rows: NDArray[Any], columns: NDArray[Any]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def main() -> None:
    """Measure every catalogue at hand and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=20_000)
    default = RESULTS / device_name(slug=True) / "quality_cold_items.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    console, rows = Console(), []
    table = Table("catalogue", "withheld", "asked", "method", "recall@20, mean ± sd of 3 draws")
    shops = [beauty(), *(synthetic(arguments.customers, pictures) for pictures in (False, True))]
    for data in (shop for shop in shops if shop is not None):
        found = [measure(data, seed) for seed in SEEDS]
        for method in ("ours", "content k-NN", "popularity", "random"):
            values = [one[method] for one in found]
            told = f"{np.mean(values):.4f} ± {np.std(values):.4f}"
            table.add_row(
                data.name, f"{found[0]['num_cold']:.0f}", f"{found[0]['num_users']:.0f}", method, told
            )
        for peer in ("content k-NN", "popularity", "random"):
            rows.append(_row(data, peer, found))
    console.print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _row(data: Catalogue, peer: str, found: list[dict[str, float]]) -> dict[str, Any]:
    ours, theirs = [one["ours"] for one in found], [one[peer] for one in found]
    ratios = np.array(ours) / np.array(theirs)
    low, middle, high = (float(x) for x in np.percentile(ratios, [20, 50, 80]))
    return {
        "bench": "quality_cold_items", "case": data.name, "peer": peer, "metric": "recall_at_20",
        "ours": float(np.mean(ours)), "theirs": float(np.mean(theirs)), "ratio": middle, "p20": low,
        "p80": high, "unit": "1", "device": device_name(), "versions": versions(), "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.quality_cold_items",
        "protocol": " ".join((__doc__ or "").split("Protocol: ")[1].split()), "seeds": list(SEEDS),
        "data_sha256": data.sha256, "published": None, "source": None,
        "details": {"per_seed": found, "ours_sd": float(np.std(ours)), "theirs_sd": float(np.std(theirs))},
    }  # fmt: skip


if __name__ == "__main__":
    main()
