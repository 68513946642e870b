"""A million account records to customers, beside Splink with DuckDB on the same records and truth.

shopsight bench identity      or      python -m benchmarks.bench_identity [--peer-python PATH] [--records 1e6]

Splink lives in an environment of its own (pip install splink==5.0.0 duckdb==2.0.0); its python is named by
--peer-python or $SHOPSIGHT_SPLINK_PYTHON, without one the peer is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.febrl import FEBRL, febrl
from benchmarks.person_records import person_records
from benchmarks.runner import Report, run_benchmark
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.identity.linkage import curve, link, pairwise_quality
from shopsight.training.data.identity.resolve import resolve
from shopsight.training.data.tables import SCHEMAS

PEER_VARIABLE, RECORDS_VARIABLE = "SHOPSIGHT_SPLINK_PYTHON", "SHOPSIGHT_BENCH_RECORDS"
_PEER = Path(__file__).with_name("splink_peer.py")
_UTC = pl.Datetime("us", "UTC")


def run(report: Report) -> None:
    """Febrl for quality, growth of the time with the records, then the largest case beside the peer."""
    num = int(float(os.environ.get(RECORDS_VARIABLE, "1e6")))
    febrl_quality(report)
    smallest = ours(report, num // 8, 0.0)
    for part in (4, 2):
        ours(report, num // part, 0.0, linear=smallest * 8 / part)
    seconds = ours(report, num, 0.0, linear=smallest * 8)
    records, truth = person_records(num)
    beside_splink(report, records, truth, seconds)
    ours(report, num, 0.1)


def febrl_quality(report: Report) -> None:
    """Sets 3 and 4 with and without soc_sec_id, nothing learned from labels; beside the target of .995."""
    if not FEBRL.is_dir():
        report.say(f"febrl is not at {FEBRL}: its table is left out")
        return
    report.say("febrl               precision  recall  F1      threshold")
    for case, names in (("set 3", ("dataset3",)), ("set 4", ("dataset4a", "dataset4b"))):
        for number in ("soc_sec_id", "without"):
            records, truth = febrl(names)
            linkage = link(records if number == "soc_sec_id" else records.drop("gov_id"))
            found = pairwise_quality(linkage.clusters, truth)
            report.say(
                f"{case}, {number:<12} {found.precision:.4f}     {found.recall:.4f}  {found.f1:.4f}  "
                f"{linkage.choice.threshold}"
            )
            report.add_value(
                f"febrl {case}, {number}", "target", "f1", found.f1, 0.995, "F1",
                precision=found.precision, recall=found.recall, threshold=linkage.choice.threshold,
            )  # fmt: skip


def ours(report: Report, num: int, household_share: float, linear: float | None = None) -> float:
    """Records to customer ids: pseudonyms, linkage, clusters, ids, log and facts; returns its seconds.

    `linear` is the time that growth in step with the records would take; the row shows it beside ours.
    """
    records, truth = person_records(num, household_share)
    nothing = pl.DataFrame(schema=SCHEMAS["identities"])
    seen = pl.DataFrame(schema={"source": pl.String, "source_id": pl.String, "first_seen": _UTC})
    began, cpu_began = time.perf_counter(), time.process_time()
    found = resolve(records, seen, nothing, PseudonymKey("bench", b"b" * 32))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    quality = pairwise_quality(found.linkage.clusters, _in_order_of(found.accounts, records, truth))
    details: dict[str, Any] = {
        "num_records": num,
        "household_share": household_share,
        "cpu_seconds": cpu_seconds,
        "threshold": found.linkage.choice.threshold,
        "f1": quality.f1,
        "precision": quality.precision,
        "recall": quality.recall,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    case = f"{num:,} records" + (f", {household_share:.0%} share a household" if household_share else "")
    report.say(
        f"{case}: F1 {quality.f1:.4f}, precision {quality.precision:.4f}, recall {quality.recall:.4f}, "
        f"{cpu_seconds:.1f} seconds of processor time"
    )
    if household_share:
        report.add_value(case, "none", "f1", quality.f1, quality.f1, "F1", **details)
    else:
        report.add_value(
            "records to customer ids", "none", "growth", seconds, linear or seconds, "s", **details
        )
    return seconds


def beside_splink(report: Report, records: pl.DataFrame, truth: np.ndarray, whole_seconds: float) -> None:
    """Linkage and clusters of both, one after the other; Splink's best threshold by the truth counts."""
    python = os.environ.get(PEER_VARIABLE)
    if not python:
        report.say(f"${PEER_VARIABLE} names no python with splink: the peer is left out")
        return
    with tempfile.TemporaryDirectory() as name:
        path, clusters = Path(name) / "records.parquet", Path(name) / "clusters.parquet"
        records.with_row_index("unique_id").write_parquet(path)
        done = subprocess.run([python, _PEER, path, clusters], capture_output=True, text=True, check=True)
        peer = json.loads(done.stdout.strip().splitlines()[-1])
        theirs = dict(_scored(clusters, truth))
    began = time.perf_counter()
    linkage = link(records)
    seconds = time.perf_counter() - began
    quality = pairwise_quality(linkage.clusters, truth)
    best = max(theirs, key=lambda threshold: theirs[threshold].f1)
    steps = peer["seconds"]
    total = sum(value for step, value in steps.items() if not step.startswith("cluster"))
    total += steps[f"cluster {best}"]
    case, name = f"{records.height:,} records", f"splink {peer['versions']['splink']}"
    by_threshold = curve(linkage, truth).to_dicts()
    splink = {str(t): [q.precision, q.recall, q.f1] for t, q in theirs.items()}
    report.add_times(
        f"{case}, linkage and clusters", name, [seconds], [total],
        peer_versions=peer["versions"], peer_steps=steps, with_ids_and_log_seconds=whole_seconds,
    )  # fmt: skip
    report.add_value(
        f"{case}, our threshold without labels, theirs the best by truth", name, "f1", quality.f1,
        theirs[best].f1, "F1", threshold=linkage.choice.threshold, peer_threshold=best,
        by_threshold=by_threshold, peer_by_threshold=splink,
    )  # fmt: skip


def _scored(clusters: Path, truth: np.ndarray) -> Iterator[tuple[float, Any]]:
    for path in sorted(clusters.parent.glob(f"{clusters.name}.*")):
        found = pl.read_parquet(path, glob=False).sort("unique_id")["cluster_id"].rank("dense")
        yield float(path.name.removeprefix(f"{clusters.name}.")), pairwise_quality(found.to_numpy(), truth)


def _in_order_of(accounts: pl.DataFrame, records: pl.DataFrame, truth: np.ndarray) -> np.ndarray:
    known = records.select("source_id").with_columns(pl.Series("truth", truth))
    return accounts.join(known, on="source_id", how="left", maintain_order="left")["truth"].to_numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", help="python of an environment with splink and duckdb")
    parser.add_argument("--records", default="1e6", help="size of the largest case")
    parser.add_argument("--json", type=Path, help="where the rows go")
    asked = parser.parse_args()
    os.environ[RECORDS_VARIABLE] = asked.records
    if asked.peer_python:
        os.environ[PEER_VARIABLE] = asked.peer_python
    run_benchmark("identity", asked.json)
