"""Customer lists from the field: households stay apart, doubles are found."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.training.data.identity.linkage import link, pairwise_quality

CASES = Path(__file__).parents[3] / "shared" / "cases" / "ingest"
_NAMES = {
    "first_name": "given_name", "last_name": "family_name", "address": "street", "zip": "postcode",
    "customer_id": "source_id", "contact_id": "source_id",
}  # fmt: skip

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the field's cases are not at {CASES}"),
]


def case(name: str) -> tuple[pl.DataFrame, list[str]]:
    """The accounts of a case and who each is; a support contact is the customer with its mail address."""
    parts = []
    for path in sorted((CASES / name).glob("*.csv")):
        frame = pl.read_csv(path, infer_schema=False)
        frame = frame.rename({old: new for old, new in _NAMES.items() if old in frame.columns})
        if "birth_date" in frame.columns:
            frame = frame.with_columns(pl.col("birth_date").str.to_date("%Y-%m-%d", strict=False))
        parts.append(frame)
    accounts = pl.concat(parts, how="diagonal")
    person = json.loads((CASES / name / "expected.json").read_text(encoding="utf-8"))
    by_mail = {m: person[i] for i, m in accounts.select("source_id", "email").iter_rows() if i in person}
    return accounts, [
        person.get(i) or by_mail[m] for i, m in accounts.select("source_id", "email").iter_rows()
    ]


@pytest.mark.parametrize(
    "name",
    [
        "19-identity",
        "19d-unique-mails-households",
        "19e-households-and-duplicates",
        "19f-households-no-birth",
        "19g-two-sources",
    ],
)
def test_nobody_is_joined_with_another_and_every_double_is_found(name: str) -> None:
    accounts, person = case(name)
    linkage = link(accounts)
    found = pl.DataFrame({"cluster": linkage.clusters, "person": person})
    wrong = found.group_by("cluster").agg(pl.col("person").n_unique()).filter(pl.col("person") > 1)
    quality = pairwise_quality(linkage.clusters, found["person"].rank("dense"))
    print(f"{name}: {wrong['person'].sum()} people wrongly joined, recall {quality.recall:.4f}")
    assert wrong.is_empty() and quality.recall == 1.0
    assert linkage.precision.low <= quality.precision <= linkage.precision.high
