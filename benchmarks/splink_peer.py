"""Splink on its own over the same records, run by bench_identity in an environment that has it.

python splink_peer.py RECORDS.parquet CLUSTERS.parquet  ->  one line of JSON: versions, seconds of each step

Settings as in Splink's own guides to linking people: the library's comparison for each field, names and
birth date with their term frequencies, blocking rules of two agreeing fields or one key.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

import duckdb
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

THRESHOLDS = (0.5, 0.9, 0.95, 0.99, 0.999)
_PREDICTION = (
    block_on("email"),
    block_on("phone"),
    block_on("birth_date", "substr(given_name, 1, 1)"),
    block_on("birth_date", "substr(family_name, 1, 1)"),
    block_on("birth_date", "postcode"),
    block_on("given_name", "family_name"),
    block_on("given_name", "postcode"),
    block_on("family_name", "postcode"),
    block_on("street", "postcode"),
    block_on("substr(given_name, 1, 3)", "substr(family_name, 1, 3)", "city"),
)
_SURE = [block_on("email"), block_on("phone"), block_on("given_name", "family_name", "birth_date")]


def main(records_path: str, clusters_path: str) -> None:
    """Train without labels, predict, cluster at every threshold; the clusters are written for scoring."""
    connection = duckdb.connect()
    api = DuckDBAPI(connection)
    seconds, began = {}, time.perf_counter()

    def lap(step: str) -> None:
        nonlocal began
        seconds[step] = time.perf_counter() - began
        began = time.perf_counter()

    connection.sql(f"CREATE TABLE records AS SELECT * FROM read_parquet('{records_path}')")
    linker = Linker(api.register("records"), _settings(), log_level="WARNING")
    lap("load")
    linker.training.estimate_probability_two_random_records_match(_SURE, recall=0.7)
    linker.training.estimate_u_using_random_sampling(max_pairs=5e6, seed=1)
    for rule in (block_on("given_name", "family_name"), block_on("birth_date")):
        linker.training.estimate_parameters_using_expectation_maximisation(rule)
    lap("train")
    predictions = linker.inference.predict(threshold_match_probability=min(THRESHOLDS))
    lap("predict")
    for threshold in THRESHOLDS:
        found = linker.clustering.cluster_pairwise_predictions_at_threshold(
            predictions, threshold_match_probability=threshold
        )
        lap(f"cluster {threshold}")
        connection.sql(
            f"COPY (SELECT unique_id, cluster_id FROM {found.physical_name} ORDER BY unique_id) "
            f"TO '{clusters_path}.{threshold}' (FORMAT parquet)"
        )
        began = time.perf_counter()
    versions = {name: importlib.metadata.version(name) for name in ("splink", "duckdb")}
    print(json.dumps({"versions": versions, "seconds": seconds}))


def _settings() -> SettingsCreator:
    return SettingsCreator(
        link_type="dedupe_only",
        blocking_rules_to_generate_predictions=list(_PREDICTION),
        comparisons=[
            cl.ForenameSurnameComparison("given_name", "family_name").configure(
                term_frequency_adjustments=True
            ),
            cl.DateOfBirthComparison("birth_date", input_is_string=False),
            cl.JaroWinklerAtThresholds("street", [0.92, 0.8]),
            cl.JaroWinklerAtThresholds("city", [0.88]).configure(term_frequency_adjustments=True),
            cl.LevenshteinAtThresholds("postcode", [1]),
            cl.EmailComparison("email"),
            cl.LevenshteinAtThresholds("phone", [1]),
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
