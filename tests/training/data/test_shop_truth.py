"""The planted truth can be found again in the raw files: funnels, personas, tastes, the experiment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.shop.experiment import assign_arms

FUTURE_DAY = 379  # in the middle of the weeks after the raw data


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop without bad rows, large enough for statistics."""
    root = tmp_path_factory.mktemp("shop")
    spec = ShopSpec(num_customers=4_000, seed=11, bad_row_share=0, num_items=1_000, effect=1.4)
    make_shop(spec, root / "raw", root / "truth")
    return root


@pytest.fixture(scope="module")
def purchases(shop: Path) -> pl.DataFrame:
    """Every purchase line: person, item, channel, price, quantity, discount, time."""
    app = pl.read_ndjson(shop / "raw/app_events.jsonl", infer_schema_length=None).filter(type="order")
    web = pl.read_csv(shop / "raw/web_orders.csv", infer_schema_length=None)
    store = pl.read_csv(
        shop / "raw/store_orders.csv", infer_schema_length=None, schema_overrides={"card_no": pl.String}
    )
    columns = ("source_id", "item", "price", "quantity", "discount", "time")
    parts = {
        "app": app.select("user_id", "item", "price", "qty", "discount", "ts"),
        "web": web.select("account_id", "sku", "unit_price", "qty", "discount", "ordered_at"),
        "store": store.select("card_no", "sku", "price", "qty", "discount", "till_time"),
    }
    frames = [
        part.rename(dict(zip(part.columns, columns, strict=True))).with_columns(
            pl.col("price", "discount", "quantity").cast(pl.Float64), source=pl.lit(name)
        )
        for name, part in parts.items()
    ]
    identities = pl.read_parquet(shop / "truth/identities.parquet")
    bought = pl.concat(frames).filter(pl.col("quantity") > 0)
    joined = bought.join(identities, on=["source", "source_id"])
    assert joined.height == bought.height
    return joined


def test_carts_follow_views_and_orders_follow_carts_within_a_session(shop: Path) -> None:
    events = pl.read_ndjson(shop / "raw/app_events.jsonl", infer_schema_length=None)
    first = events.group_by("session", "item", "type").agg(pl.col("ts").min())
    steps = first.pivot("type", index=["session", "item"], values="ts").filter(pl.col("order").is_not_null())
    assert steps.height > 300
    assert (steps["screen_view"] < steps["add_to_basket"]).all()
    assert (steps["add_to_basket"] < steps["order"]).all()
    returned = steps.drop_nulls("refund")
    assert returned.height > 30
    assert (returned["order"] < returned["refund"]).all()


def test_the_holidays_are_busier_and_the_year_grows(purchases: pl.DataFrame) -> None:
    months = purchases.group_by(pl.col("time").str.slice(0, 7).alias("month")).len().sort("month")["len"]
    assert months[5] > 1.2 * months.mean()  # type: ignore[operator]
    assert months[9:12].mean() > months[0:3].mean()  # type: ignore[operator]


def test_personas_come_back_from_what_people_bought(shop: Path, purchases: pl.DataFrame) -> None:
    catalogue = pl.read_csv(shop / "raw/items.csv").select(
        pl.col("sku").alias("item"), pl.col("category").str.split("/").list.first().alias("department")
    )
    bought = purchases.join(catalogue, on="item").with_columns(
        hour=pl.col("time").str.slice(11, 2).cast(pl.Float64)
    )
    shares = bought.pivot("department", index="person_id", values="item", aggregate_function="len").fill_null(
        0
    )
    facts = bought.group_by("person_id").agg(
        pl.len().log1p(),
        pl.col("price").log().mean(),
        (pl.col("discount") > 0).mean(),
        pl.col("hour").mean(),
        *((pl.col("source") == s).mean().alias(s) for s in ("web", "app", "store")),
        num=pl.len(),
    )
    people = pl.read_parquet(shop / "truth/people.parquet").select("person_id", "persona")
    table = people.join(facts, on="person_id").join(shares, on="person_id").filter(pl.col("num") >= 4)
    counts = table.select(shares.columns[1:]).to_numpy()
    features = np.column_stack(
        [counts / counts.sum(axis=1, keepdims=True), table.select(facts.columns[1:-1]).to_numpy()]
    )
    found = KMeans(6, n_init=4, random_state=0).fit_predict(StandardScaler().fit_transform(features))
    score = adjusted_rand_score(table["persona"].to_numpy(), found)
    # Recoverable, yet overlapping: neither noise nor six islands.
    assert 0.6 <= score <= 0.95


def recall_at_10(scores: np.ndarray, bought: list[set[int]], future: list[set[int]]) -> float:
    hits = []
    for row, seen, wanted in zip(scores, bought, future, strict=True):
        new = wanted - seen
        if new:
            ranked = [i for i in np.argsort(-row)[: 10 + len(seen)] if i not in seen][:10]
            hits.append(len(new.intersection(ranked)) / min(10, len(new)))
    return float(np.mean(hits))


def test_planted_factors_predict_the_future_far_better_than_popularity(
    shop: Path, purchases: pl.DataFrame
) -> None:
    people = pl.read_parquet(shop / "truth/people.parquet").with_row_index("p")
    items = pl.read_parquet(shop / "truth/items.parquet").with_row_index("i")
    future = pl.read_parquet(shop / "truth/future_purchases.parquet")
    last = purchases["time"].max()
    assert isinstance(last, str)
    assert future["timestamp"].min().isoformat(sep=" ") > last  # type: ignore[union-attr]

    def pairs(frame: pl.DataFrame, item: str) -> list[set[int]]:
        own: list[set[int]] = [set() for _ in range(people.height)]
        joined = frame.join(people, on="person_id").join(items, left_on=item, right_on="item_id")
        for p, i in joined.select("p", "i").iter_rows():
            own[p].add(i)
        return own

    bought, wanted = pairs(purchases, "item"), pairs(future, "item_id")
    on_sale = ((items["from_day"] <= FUTURE_DAY) & (items["to_day"] > FUTURE_DAY)).to_numpy()
    factors = people["factor"].to_numpy() @ items["factor"].to_numpy().T
    popular = np.bincount([i for own in bought for i in own], minlength=items.height).astype(float)
    best = recall_at_10(np.where(on_sale, factors, -np.inf), bought, wanted)
    assert best > 4 * recall_at_10(np.tile(popular, (people.height, 1)), bought, wanted)


def test_arms_are_even_stable_and_differ_by_seed() -> None:
    numbers = np.arange(40_000)
    arms = assign_arms(numbers, 1)
    assert abs(arms.mean() - 0.5) < 4 * 0.5 / np.sqrt(numbers.size)
    assert (assign_arms(numbers[100:200], 1) == arms[100:200]).all()
    assert abs((assign_arms(numbers, 2) == arms).mean() - 0.5) < 0.02


def test_the_metric_computed_from_the_raw_files_meets_its_expectation(shop: Path) -> None:
    truth = json.loads((shop / "truth/experiment.json").read_text())
    identities = pl.read_parquet(shop / "truth/identities.parquet").filter(source="web")
    shown = pl.read_csv(shop / "raw/exposures.csv").join(
        identities, left_on="account_id", right_on="source_id"
    )
    shown = shown.group_by("person_id").agg(
        pl.col("variant").unique(), pl.col("shown_at").str.to_datetime(time_zone="UTC").min()
    )
    assert (shown["variant"].list.len() == 1).all()
    orders = pl.read_csv(shop / "raw/web_orders.csv").filter(pl.col("qty") > 0)
    orders = orders.join(identities, left_on="account_id", right_on="source_id").select(
        "person_id", pl.col("ordered_at").str.to_datetime(time_zone="UTC")
    )
    after = shown.join(orders, on="person_id").filter(pl.col("ordered_at") >= pl.col("shown_at"))
    for arm in truth["arms"]:
        exposed = shown.filter(pl.col("variant").list.first() == arm)["person_id"]
        converted = exposed.is_in(after["person_id"].to_list())
        assert exposed.len() == truth["exposed"][arm]
        assert converted.sum() == truth["converted"][arm]
        expected = truth["expected_metric"][arm]
        assert abs(converted.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / exposed.len())  # type: ignore[operator]
    assert truth["expected_lift"] > 0.15


def test_an_exact_join_on_mail_addresses_neither_finds_all_nor_only_the_right_ones(shop: Path) -> None:
    raw = shop / "raw"
    frames = [
        pl.read_csv(raw / "web_accounts.csv").select(
            source=pl.lit("web"), source_id="account_id", email="email"
        ),
        pl.read_ndjson(raw / "app_accounts.jsonl").select(
            source=pl.lit("app"), source_id="user_id", email="email"
        ),
        pl.read_csv(raw / "loyalty_cards.csv", schema_overrides={"card_no": pl.String}).select(
            source=pl.lit("store"), source_id="card_no", email="email"
        ),
    ]
    identities = pl.read_parquet(shop / "truth/identities.parquet")
    accounts = pl.concat(frames).join(identities, on=["source", "source_id"])
    accounts = accounts.with_columns(pl.col("email").fill_null(pl.col("source_id")))

    def num_pairs(*by: str) -> float:
        sizes = accounts.group_by(by).len()["len"].cast(pl.Float64)
        return float((sizes * (sizes - 1) / 2).sum())

    right = num_pairs("person_id", "email")
    assert right / num_pairs("email") < 0.98
    assert right / num_pairs("person_id") < 0.85


def test_people_write_in_two_languages_and_agents_labelled_two_fifths(shop: Path) -> None:
    messages = pl.read_ndjson(shop / "raw/support_messages.jsonl", infer_schema_length=None)
    truth = pl.read_parquet(shop / "truth/messages.parquet")
    joined = messages.join(truth, on="message_id", suffix="_true")
    assert joined.height == messages.height
    labelled = joined.drop_nulls("intent")
    assert 0.36 < labelled.height / joined.height < 0.44
    wrong = (labelled["intent"] != labelled["intent_true"]).mean()
    assert 0.005 < wrong < 0.03  # type: ignore[operator]
    assert set(joined["intent_true"]) == set(labelled["intent_true"])
    chinese = joined["text"].str.contains(r"\p{Han}{2}")
    assert chinese.filter(joined["lang"] == "zh").mean() > 0.95  # type: ignore[operator]
    assert 0.15 < (joined["lang"] == "zh").mean() < 0.35  # type: ignore[operator]
    assert joined["text"].n_unique() > 0.97 * joined.height
