"""Identity: who is joined, who is kept apart, and ids that stay."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.febrl import FEBRL, febrl
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.errors import IngestError
from shopsight.training.data.identity.linkage import curve, link, pairwise_quality
from shopsight.training.data.identity.linkage.clusters import cluster
from shopsight.training.data.identity.linkage.normalise import normalise
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.intake import Intake
from shopsight.training.data.loading import load_all
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import SCHEMAS

KEY = PseudonymKey("test", b"k" * 32)
NOTHING = pl.DataFrame(schema=SCHEMAS["identities"])
NO_SEEN = pl.DataFrame(
    schema={"source": pl.String, "source_id": pl.String, "first_seen": pl.Datetime("us", "UTC")}
)


def people(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


def account(source: str, source_id: str, name: str, **fields: object) -> dict[str, object]:
    return {"source": source, "source_id": source_id, "full_name": name, **fields}


def customer_of(resolution: Resolution, source: str, source_id: str) -> str:
    rows = resolution.customers.filter((pl.col("source") == source) & (pl.col("source_id") == source_id))
    return str(rows["customer_id"].item())


def crowd(num: int, seed: int = 0) -> list[dict[str, object]]:
    """People with two accounts each that share a mail address: what the model learns from."""
    rng = np.random.default_rng(seed)
    given = ["anna", "boris", "chiara", "dmitri", "elena", "farid", "gustav", "helga", "ivo", "jana"]
    family = ["abel", "brandt", "costa", "dubois", "eriksen", "fontana", "gruber", "hansen", "ito", "jung"]
    rows = []
    for i in range(num):
        name = f"{given[i % 10]} {family[i // 10 % 10]}"
        born = date(1950 + int(rng.integers(50)), int(rng.integers(1, 13)), int(rng.integers(1, 29)))
        shared = {"email": f"user{i}@x.example", "birth_date": born, "postcode": str(10000 + i * 37)}
        rows += [account("web", f"w{i}", name, **shared), account("store", f"s{i}", name, **shared)]
    return rows


def test_a_mail_address_joins_accounts_whatever_its_case_or_tag() -> None:
    rows = [
        account("web", "1", "Anna Abel", email="Anna.Abel+shop@X.example"),
        account("app", "2", "A. Abel", email="anna.abel@x.example"),
        account("app", "3", "Boris Brandt", email="boris@x.example"),
    ]
    found = resolve(people(*rows), NO_SEEN, NOTHING, KEY)
    assert customer_of(found, "web", "1") == customer_of(found, "app", "2")
    assert customer_of(found, "web", "1") != customer_of(found, "app", "3")
    assert found.num_customers == 2


def test_phones_are_equal_in_every_way_of_writing() -> None:
    frame = pl.DataFrame({"phone": ["+49 171 123 4567", "0049171-1234567", "0171/1234567", "123", None]})
    phones = normalise(frame)["phone"].to_list()
    assert phones[:3] == ["711234567"] * 3
    assert phones[3:] == [None, None]


def test_names_are_split_and_folded() -> None:
    frame = pl.DataFrame({"full_name": ["José María Núñez", "Müller, Jürgen", "王小明", "Cher"]})
    found = normalise(frame).select("given", "family").rows()
    assert found == [("jose maria", "nunez"), ("jurgen", "muller"), ("小明", "王"), ("cher", None)]


def test_a_family_that_shares_a_mailbox_and_a_phone_stays_apart() -> None:
    shared = {"email": "family@x.example", "phone": "030 1234567", "postcode": "04109", "street": "Weg 1"}
    rows = [
        account("web", "mother", "Petra Holm", birth_date=date(1970, 1, 2), **shared),
        account("store", "father", "Nils Holm", birth_date=date(1968, 7, 9), **shared),
        *crowd(80),
    ]
    found = resolve(people(*rows), NO_SEEN, NOTHING, KEY)
    assert customer_of(found, "web", "mother") != customer_of(found, "store", "father")
    assert found.num_customers == 82


def test_namesakes_of_two_generations_stay_apart() -> None:
    home = {"phone": "030 7654321", "postcode": "04109", "street": "Weg 1", "city": "Leipzig"}
    rows = [
        account("web", "senior", "Karl Holm", birth_date=date(1950, 1, 2), **home),
        account("store", "junior", "Karl Holm", birth_date=date(1980, 7, 9), **home),
        *crowd(80),
    ]
    found = resolve(people(*rows), NO_SEEN, NOTHING, KEY)
    assert customer_of(found, "web", "senior") != customer_of(found, "store", "junior")


def test_an_id_without_an_account_is_a_customer_of_its_own() -> None:
    seen = pl.DataFrame(
        {"source": ["web"], "source_id": ["ghost"], "first_seen": [datetime(2024, 5, 1, tzinfo=UTC)]},
        schema=NO_SEEN.schema,
    )
    found = resolve(people(account("web", "1", "Anna Abel")), seen, NOTHING, KEY)
    ghost = found.identities.filter(pl.col("customer_id") == customer_of(found, "web", "ghost"))
    assert ghost.select("rule", "score").rows() == [("events", 1.0)]
    assert found.num_customers == 2


def test_identities_hold_no_raw_id_and_ids_are_opaque() -> None:
    found = resolve(people(*crowd(5)), NO_SEEN, NOTHING, KEY)
    stored = set(found.identities["source_id"])
    assert stored == {
        KEY.pseudonym(r["source"], r["source_id"]) for r in found.customers.iter_rows(named=True)
    }
    assert found.identities["customer_id"].str.contains(r"^c\d{10}$").all()
    assert dict(found.identities.schema) == dict(pl.Schema(SCHEMAS["identities"]))


def test_known_customers_keep_their_ids_when_new_ones_come() -> None:
    rows = crowd(100)
    first = resolve(people(*rows[:160]), NO_SEEN, NOTHING, KEY)
    second = resolve(people(*rows), NO_SEEN, first.identities, KEY)
    kept = first.customers.join(second.customers, on=["source", "source_id"])
    assert (kept["customer_id"] == kept["customer_id_right"]).all()
    new = set(second.customers["customer_id"]) - set(first.customers["customer_id"])
    assert len(new) == 20 and min(new) > max(first.customers["customer_id"])
    assert second.num_merged == second.num_split == 0


def test_the_order_of_records_does_not_change_the_ids() -> None:
    frame = people(*crowd(40))
    first = resolve(frame, NO_SEEN, NOTHING, KEY)
    second = resolve(frame.sample(fraction=1.0, shuffle=True, seed=1), NO_SEEN, NOTHING, KEY)
    assert first.identities.equals(second.identities)


def test_a_merge_keeps_the_oldest_id_and_is_logged() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    one = account("web", "1", "Anna Abel", email="a@x.example", registered_at=day)
    two = account("app", "2", "Anna Abel", email="b@x.example", registered_at=day)
    bridge = account("app", "3", "Anna Abel", email="a@x.example", phone="0171 5550000", registered_at=day)
    first = resolve(people(one, two), NO_SEEN, NOTHING, KEY)
    ids = sorted(first.customers["customer_id"])
    assert len(set(ids)) == 2
    linked = people(one, {**two, "phone": "0171 5550000"}, bridge)
    second = resolve(linked, NO_SEEN, first.identities, KEY)
    assert set(second.customers["customer_id"]) == {ids[0]}
    closed = second.identities.filter(pl.col("valid_to").is_not_null())
    assert closed.select("customer_id", "merged_into").rows() == [(ids[1], ids[0])]
    assert second.num_merged == 1
    third = resolve(linked, NO_SEEN, second.identities, KEY)
    assert third.identities.equals(second.identities), "a run that changes nothing logs nothing"


def test_a_split_leaves_the_id_with_the_larger_part() -> None:
    same = {"email": "a@x.example"}
    rows = [account("web", str(i), "Anna Abel", **same) for i in range(3)]
    first = resolve(people(*rows), NO_SEEN, NOTHING, KEY)
    assert first.num_customers == 1
    rows[2]["email"], rows[2]["full_name"] = "other@x.example", "Zoe Quist"
    second = resolve(people(*rows), NO_SEEN, first.identities, KEY)
    old = customer_of(first, "web", "0")
    assert customer_of(second, "web", "0") == customer_of(second, "web", "1") == old
    assert customer_of(second, "web", "2") != old
    assert second.num_split == 1
    closed = second.identities.filter(pl.col("valid_to").is_not_null())
    assert closed.select("customer_id", "merged_into").rows() == [(old, None)]


def test_another_key_is_refused_because_no_customer_could_be_found_again() -> None:
    first = resolve(people(*crowd(3)), NO_SEEN, NOTHING, KEY)
    with pytest.raises(IngestError, match="made with key test, this key is other and did not come from it"):
        resolve(people(*crowd(3)), NO_SEEN, first.identities, PseudonymKey("other", b"o" * 32))


def test_clusters_are_cut_at_the_weakest_edge_between_two_who_are_apart() -> None:
    left, right = np.array([0, 1, 2]), np.array([1, 2, 3])
    apart = (np.array([0]), np.array([3]))
    labels = cluster(5, left, right, np.array([0.99, 0.91, 0.98]), apart)
    assert labels.tolist() == [0, 0, 1, 1, 2]
    none = np.zeros(0, dtype=np.int64)
    assert cluster(5, left, right, np.ones(3), (none, none)).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_pairwise_quality_is_that_of_all_pairs_one_by_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, found = generator.integers(0, 6, 40), generator.integers(0, 8, 40)
    pairs = list(combinations(range(40), 2))
    together = sum(truth[i] == truth[j] and found[i] == found[j] for i, j in pairs)
    quality = pairwise_quality(found, truth)
    assert quality.precision == pytest.approx(together / sum(found[i] == found[j] for i, j in pairs))
    assert quality.recall == pytest.approx(together / sum(truth[i] == truth[j] for i, j in pairs))


def test_pairwise_quality_of_singletons_has_nothing_to_find() -> None:
    quality = pairwise_quality(np.arange(4), np.arange(4))
    assert (quality.precision, quality.recall) == (1.0, 1.0)


def test_pairwise_quality_counts_pairs() -> None:
    quality = pairwise_quality([0, 0, 0, 1, 2], [7, 7, 8, 8, 9])
    assert (quality.num_found_pairs, quality.num_true_pairs) == (3, 2)
    assert quality.precision == pytest.approx(1 / 3) and quality.recall == pytest.approx(1 / 2)


def test_nobody_and_one_person_are_no_special_case() -> None:
    empty = resolve(people(account("web", "1", "A")).clear(), NO_SEEN, NOTHING, KEY)
    assert empty.identities.height == empty.num_customers == 0
    assert link(people({"email": None, "given_name": None}).cast(pl.String)).clusters.tolist() == [0]


def test_the_shop_s_people_are_found_across_channels(tmp_path: Path) -> None:
    make_shop(ShopSpec(num_customers=1000, seed=3), tmp_path / "raw", tmp_path / "truth")
    sources = [s for s in load_sources(tmp_path / "raw" / "sources.toml") if s.kind == "customers"]
    intake = Intake(tmp_path / "intake")
    loaded = load_all(sources, intake, {}, lambda _: None).parts
    parts = [part.rows.with_columns(pl.lit(part.source.name).alias("source")) for part in loaded]
    records = pl.concat(parts, how="diagonal")
    found = resolve(records, NO_SEEN, NOTHING, KEY)
    truth = pl.read_parquet(tmp_path / "truth" / "identities.parquet")
    joined = found.customers.join(truth, on=["source", "source_id"])
    assert joined.height == found.customers.height
    quality = pairwise_quality(joined["customer_id"].rank("dense"), joined["person_id"].rank("dense"))
    assert quality.precision >= 0.98 and quality.recall >= 0.95


@pytest.mark.shared_data
@pytest.mark.skipif(not FEBRL.is_dir(), reason=f"febrl is not at {FEBRL}")
@pytest.mark.parametrize("with_number", [True, False], ids=["soc_sec_id", "without"])
@pytest.mark.parametrize("names", [("dataset3",), ("dataset4a", "dataset4b")], ids=["set3", "set4"])
def test_febrl_is_linked_without_labels(names: tuple[str, ...], with_number: bool) -> None:
    records, truth = febrl(names)
    linkage = link(records if with_number else records.drop("gov_id"))
    assert pairwise_quality(linkage.clusters, truth).f1 >= 0.995
    by_threshold = curve(linkage, truth)
    assert by_threshold["recall"].is_sorted(descending=True)
