"""Items that nobody touched get factors from what they are, and are served with the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from scipy import sparse

from shopsight.serving.routing.items import ITEMS_FILE
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import recommend
from shopsight.training.artifacts.goldens import members_of
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.recommend.cold_items import PicturesMissing
from shopsight.training.recommend.content import ContentConfig, ContentFeatures, ContentModel
from shopsight.training.recommend.content.features import item_tokens
from tests.training.recommend.test_recommend import SMALL
from tests.training.small_shop import CATEGORIES, event, write_shop

FEW = replace(SMALL, bought_again="yes")


def test_tokens_are_categories_facts_words_and_pieces_in_two_languages() -> None:
    items = pl.DataFrame(
        {
            "title": ["Blue lampshade", "灯罩 XL", None],
            "category_path": ["Home/Light", None, None],
            "brand": ["Lumo", None, None],
            "attributes": ['{"colour": "blue", "size": ["S", "M"]}', "no json", None],
        }
    )
    english, chinese, nothing = (set(tokens) for tokens in item_tokens(items))
    assert {"category Home", "category Home/Light", "brand Lumo", "fact colour=blue"} <= english
    assert {"fact size=S", "fact size=M", "title blue", "piece lamp", "piece hade"} <= english
    assert {"title 灯罩", "title xl", "fact =no json"} <= chinese
    assert not nothing


def test_rows_weigh_rare_tokens_more_and_have_length_one() -> None:
    tokens = [["all", "one"], ["all", "two"], ["all"], []]
    features = ContentFeatures.fit(tokens, 512)
    rows = features.rows(tokens).toarray()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0], atol=1e-6)
    everywhere = np.flatnonzero(rows[2])[0]
    assert rows[0, everywhere] < rows[0].max()
    np.testing.assert_array_equal(features.rows([["all", "one"]]).toarray()[0], rows[0])


def test_the_regression_is_that_of_float64() -> None:
    rng = np.random.default_rng(0)
    content = sparse.random(40, 16, 0.3, "csr", np.float32, random_state=1)
    factors = rng.standard_normal((40, 5)).astype(np.float32)
    count = rng.integers(1, 50, 40).astype(np.float64)
    model = ContentModel.fit(ContentConfig(num_buckets=16, regularization=2.0), content, factors, count)
    x, w = content.toarray().astype(np.float64), np.sqrt(count)
    expected = np.linalg.solve(x.T @ (w[:, None] * x) + 2.0 * np.eye(16), x.T @ (w[:, None] * factors))
    np.testing.assert_allclose(model.weights, expected, rtol=1e-4, atol=1e-5)


def test_a_picture_tells_what_words_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bright = rng.random(160).astype(np.float32)
    pictures = torch.from_numpy(bright[:, None, None, None] + 0.02 * rng.standard_normal((160, 3, 16, 16)))
    pictures = pictures.to(torch.float32)
    factors = np.stack([2 * bright - 1, 1 - 2 * bright], axis=1)
    content = sparse.csr_matrix(np.ones((160, 4), np.float32) / 2)
    config = ContentConfig(num_buckets=4, epochs=30, channels=(8, 8), batch_size=32)
    known, unseen = slice(0, 120), slice(120, 160)
    blind = ContentModel.fit(config, content[known], factors[known], np.ones(120))
    seeing = ContentModel.fit(config, content[known], factors[known], np.ones(120), pictures[known])
    errors = [
        float(np.abs(model.predict(content[unseen], given) - factors[unseen]).mean())
        for model, given in ((blind, None), (seeing, pictures[unseen]))
    ]
    assert errors[1] < 0.4 * errors[0]
    seeing.save(tmp_path)
    again = ContentModel.load(tmp_path).predict(content[unseen], pictures[unseen])
    np.testing.assert_array_equal(again, seeing.predict(content[unseen], pictures[unseen]))
    with pytest.raises(ValueError, match="fitted with them"):
        seeing.predict(content[unseen])


def test_no_item_to_learn_from_is_refused() -> None:
    nothing = sparse.csr_matrix((0, 8), dtype=np.float32)
    with pytest.raises(ValueError, match="no item has interactions"):
        ContentModel.fit(ContentConfig(num_buckets=8), nothing, np.empty((0, 3), np.float32), np.empty(0))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three tastes over sixty items, and one new item of each taste that nobody touched."""
    rng = np.random.default_rng(0)
    items = [
        {"item_id": f"{c}-{n:02d}", "category_path": c, "title": f"{c} thing {n}", "price": 9.0}
        for c in CATEGORIES
        for n in range(20)
    ]
    items += [
        {"item_id": f"{c}-new", "category_path": c, "title": f"{c} thing", "price": 9.0} for c in CATEGORIES
    ]
    events = [
        event(f"c{i:02d}", f"{CATEGORIES[i % 3]}-{int(rng.integers(20)):02d}", "purchase", float(day))
        for i in range(60)
        for day in rng.uniform(0, 100, 12)
    ]
    made = write_shop(tmp_path_factory.mktemp("shop"), events, items)
    recommend.train(made, FEW, lambda _: None)
    return made


def _best(workspace: Workspace, customer: str, k: int) -> list[tuple[str, str]]:
    router = RecommendRouter(workspace.models / "recommend", release="1")
    ask = members_of({"mf_retrieval": workspace.models / "mf_retrieval" / "model.onnx"})
    tensors: dict[str, Any] = {
        "CUSTOMER_ID": np.array([customer.encode()], dtype=np.object_),
        "K": np.array([k], dtype=np.int32),
    }
    answer = router.answer([Row(tensors)], ask)[0]
    assert isinstance(answer, dict)
    named = zip(answer["ITEM_ID"].tolist(), answer["REASON_CODE"].tolist(), strict=True)
    return [(item.decode(), reason.decode()) for item, reason in named]


def test_a_new_item_is_offered_to_those_who_like_its_kind_and_says_that_it_is_new(shop: Workspace) -> None:
    recommend.export(shop, FEW)
    for number, category in enumerate(CATEGORIES):
        offered = dict(_best(shop, f"c{number:02d}", 63))
        new = [item for item in offered if item.endswith("-new")]
        assert new[0] == f"{category}-new" and offered[new[0]] == "new"
        assert all(reason != "new" for item, reason in offered.items() if not item.endswith("-new"))
    arrays = load_file(shop.models / "recommend" / ITEMS_FILE)
    assert arrays["cold"].sum() == 3
    cold = arrays["cold"].astype(bool)
    assert not arrays["item_factor"][cold].any()  # what folds a history in stays as it was trained


def test_content_can_be_left_out(shop: Workspace) -> None:
    recommend.export(shop, replace(FEW, content=False))
    assert not load_file(shop.models / "recommend" / ITEMS_FILE)["cold"].any()


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    items = [
        {"item_id": f"i{n}", "title": f"t{n}", "image_path": f"{n}.png", "price": 1.0} for n in range(70)
    ]
    events = [event(f"c{n % 9}", f"i{n % 60}", "purchase", float(n) / 3) for n in range(300)]
    workspace = write_shop(tmp_path / "w", events, items)
    recommend.train(workspace, FEW, lambda _: None)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(69):
        Image.new("RGB", (8, 8), (n, n, n)).save(pictures / f"{n}.png")
    with pytest.raises(PicturesMissing, match=r"69\.png: missing, and 0 more of 70"):
        recommend.export(workspace, replace(FEW, content_pictures=str(pictures)))
    Image.new("RGB", (8, 8)).save(pictures / "69.png")
    recommend.export(workspace, replace(FEW, content_pictures=str(pictures)))
    assert load_file(workspace.models / "recommend" / ITEMS_FILE)["cold"].sum() == 10


def test_a_shop_with_pictures_draws_its_items_alike_and_is_otherwise_the_same(tmp_path: Path) -> None:
    for name, pictures in (("a", True), ("b", True), ("c", False)):
        make_shop(ShopSpec(num_customers=60, pictures=pictures), tmp_path / name, tmp_path / f"{name}-truth")
    rows = pl.read_csv(
        tmp_path / "a" / "items.csv", infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
    )
    named = rows["picture"].drop_nulls().unique()
    assert len(named) == ShopSpec(num_customers=60).catalogue_size
    for path in named.sort()[:5]:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
        assert Image.open(tmp_path / "a" / path).size == (48, 48)
    assert (tmp_path / "a" / "web_events.csv").read_bytes() == (
        tmp_path / "c" / "web_events.csv"
    ).read_bytes()
    assert 'image_path = "picture"' in (tmp_path / "a" / "sources.toml").read_text()
    assert not (tmp_path / "c" / "pictures").exists()
