"""Preprocessing is exported, not rewritten: on the same raw inputs training and Triton answer alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from shopsight.serving.client import Event, ShopsightClient
from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, load_key
from shopsight.serving.server import TritonServer
from shopsight.training import language, profiles, recommend, value
from shopsight.training.data.tables import scan_table
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.shop import Shop
from tests.waiting import HANG_SECONDS
from tests.whole_way.conftest import ServedShop

pytestmark = pytest.mark.triton

TEXTS = [
    "Where is my parcel? It should have been here on Monday.",
    "我要退货，怎么办理",
    "The JACKET I got is the wrong size!!! :(",
    "谢谢你们，客服很好 👍",
    "refund",
    "x",
    "<b>order</b> AO0000652; DROP TABLE orders; --",
    "مرحبا where  is\tmy\norder ‏",
    "word " * 400,
]


@pytest.fixture(scope="module")
def client(served_shop: ServedShop) -> Iterator[ShopsightClient]:
    server = TritonServer.attach(served_shop.workspace.repository)
    with ShopsightClient(server.grpc_url, deadline_seconds=HANG_SECONDS) as made:
        yield made


def test_known_customers_are_shown_what_the_trained_factors_rank_first(
    served_shop: ServedShop, client: ShopsightClient
) -> None:
    trained = recommend.load(served_shop.workspace)
    shop = Shop(served_shop.workspace, RecommendConfig())
    withdrawn = np.flatnonzero(~shop.available(shop.windows.end))
    bought = shop.bought(shop.windows.end)
    customers = trained.catalogue.customer_ids
    num_personal = 0
    for row in range(0, len(customers), max(1, len(customers) // 60)):
        if not trained.final.user_factors[row].any():
            continue
        own = [] if trained.choice.bought_again else bought[row].indices
        expected, scores = trained.final.recommend(
            [row], 10, filter_viewed=False, exclude_items=np.union1d(withdrawn, own).astype(np.int64)
        )
        answer = client.recommend(customer_id=customers[row], k=10)
        assert set(answer.reasons) == {"personal"}
        assert list(answer.items) == [trained.catalogue.item_ids[int(i)] for i in expected[0]]
        np.testing.assert_allclose(answer.scores, scores[0], rtol=0, atol=1e-5)
        num_personal += 1
    assert num_personal >= 30


def test_an_unseen_history_is_folded_in_as_the_trained_model_does(
    served_shop: ServedShop, client: ShopsightClient
) -> None:
    trained = recommend.load(served_shop.workspace)
    shop = Shop(served_shop.workspace, RecommendConfig())
    sold = shop.available(shop.windows.end)
    ids, generator = trained.catalogue.item_ids, np.random.default_rng(3)
    for length in (1, 2, 5, 17):
        seen = generator.choice(len(ids), length, replace=False)
        history = [Event(ids[int(i)], "view", datetime(2026, 6, 1, tzinfo=UTC)) for i in seen]
        answer = client.recommend(history=history, k=10)
        view = np.float32(RecommendConfig().event_weights.view)
        row = csr_matrix((np.full(length, view), (np.zeros(length, int), seen)), shape=(1, len(ids)))
        scores = trained.final.fold_in(row).astype(np.float64) @ trained.final.item_factors.T
        best = np.argsort(-np.where(sold, scores[0], -np.inf), kind="stable")[:10]
        assert set(answer.reasons) == {"folded_in"}
        assert list(answer.items) == [ids[int(i)] for i in best]
        np.testing.assert_allclose(answer.scores, scores[0, best], rtol=0, atol=1e-5)


def test_every_customer_is_in_the_segment_that_training_assigned(
    served_shop: ServedShop, client: ShopsightClient
) -> None:
    assigned = profiles.load(served_shop.workspace).assigned.sample(100, seed=0)
    for customer, name in assigned.select("customer_id", "name").iter_rows():
        assert client.profile(customer_id=customer).segment == name


def test_every_customer_who_bought_is_forecast_as_in_training(
    served_shop: ServedShop, client: ShopsightClient
) -> None:
    trained = value.load(served_shop.workspace)
    for row in trained.customers.sample(60, seed=0).to_dicts():
        told = client.profile(customer_id=row["customer_id"]).forecast
        assert told is not None and (told.currency, told.horizon_days) == ("EUR", trained.horizon_days)
        for name in ("value", "value_low", "value_high", "churn", "alive", "expected_purchases"):
            assert getattr(told, name) == pytest.approx(row[name], rel=1e-6, abs=1e-6, nan_ok=True), name
    known = profiles.load(served_shop.workspace).assigned["customer_id"]
    never = known.filter(~known.is_in(trained.customers["customer_id"].to_list()))
    assert client.profile(customer_id=never[0]).forecast is None
    assert client.insight(customer_id=never[0])["profile"]["forecast"] is None


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_is_understood_as_in_training(
    served_shop: ServedShop, client: ShopsightClient, text: str
) -> None:
    predicted = language.load(served_shop.workspace).predict([text])
    answer = client.understand(text)
    assert answer.intent == predicted.labels("intent")[0]
    assert answer.sentiment == predicted.labels("sentiment")[0]
    assert answer.confidence == pytest.approx(predicted.probability("intent").max(), abs=1e-5)


def test_a_channel_may_ask_with_its_own_id(
    served_shop: ServedShop, client: ShopsightClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, KEY_FILE_VARIABLE, str(served_shop.command.key_file))
    key = load_key()
    accounts = pl.read_csv(served_shop.raw / "web_accounts.csv", encoding="utf8-lossy", ignore_errors=True,
                           truncate_ragged_lines=True, infer_schema=False)  # fmt: skip
    identities = scan_table(served_shop.workspace.tables, "identities").collect()
    for account in accounts["account_id"].drop_nulls().unique(maintain_order=True).head(20):
        hashed = key.pseudonym("web", account)
        mine = identities.filter((pl.col("source") == "web") & (pl.col("source_id") == hashed))
        if mine.is_empty():
            continue
        by_account = client.recommend(source="web", source_id=account, k=5)
        by_customer = client.recommend(customer_id=mine["customer_id"][0], k=5)
        assert by_account.items == by_customer.items


def test_insight_says_what_the_single_models_say(served_shop: ServedShop, client: ShopsightClient) -> None:
    customer = str(profiles.load(served_shop.workspace).assigned["customer_id"][5])
    insight = client.insight(customer_id=customer, text=TEXTS[0], k=5)
    assert insight["profile"]["segment"] == client.profile(customer_id=customer).segment
    shown = [entry["item_id"] for entry in insight["recommendations"]]
    assert shown == list(client.recommend(customer_id=customer, k=5).items)
    assert insight["understanding"]["intent"] == client.understand(TEXTS[0]).intent
