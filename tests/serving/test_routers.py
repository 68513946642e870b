"""The routers' answers against plain NumPy, and the errors that callers can mend."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from shopsight.kernels.reference.fold_in import fold_in
from shopsight.serving.pseudonym import PseudonymKey, PseudonymKeyError
from shopsight.serving.routing.bridge import stacked
from shopsight.serving.routing.insight import InsightRouter
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import RequestError, Row
from shopsight.serving.routing.tensors import FORECAST
from shopsight.serving.routing.understand import UnderstandRouter
from tests.serving.tiny_models import KEY, SURE_FROM, TinyShop

Array = np.ndarray[Any, Any]
Ask = Callable[[str, Mapping[str, Array]], dict[str, Array]]


@functools.cache
def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path)


class Members:
    """Runs member graphs in this process and remembers what was asked."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.asked: list[tuple[str, dict[str, tuple[int, ...]]]] = []

    def __call__(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.asked.append((model, {name: value.shape for name, value in inputs.items()}))
        session = _session(self.models / model / "model.onnx")
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


@pytest.fixture(scope="module")
def shop() -> TinyShop:
    return TinyShop(seed=5)


@pytest.fixture(scope="module")
def models(shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write(tmp_path_factory.mktemp("models"))


@pytest.fixture
def members(models: Path) -> Members:
    return Members(models)


@pytest.fixture(scope="module")
def recommend(models: Path) -> RecommendRouter:
    return RecommendRouter(models / "recommend", "7", load_key=lambda: KEY)


@pytest.fixture(scope="module")
def profile(models: Path) -> ProfileRouter:
    return ProfileRouter(models / "profile", "7", load_key=lambda: KEY)


@pytest.fixture(scope="module")
def understand(models: Path) -> UnderstandRouter:
    return UnderstandRouter(models / "understand", "7")


def row(**tensors: Any) -> Row:
    def array(name: str, value: Any) -> Array:
        values = value if isinstance(value, list) else [value]
        if name in ("K", "HISTORY_TIME"):
            return np.array(values, dtype=np.int64)
        if name == "PERSONALISED":
            return np.array(values, dtype=np.bool_)
        if name == "FEATURE":
            return np.array(values, dtype=np.float32)
        return np.array([v if isinstance(v, bytes) else v.encode() for v in values], dtype=np.object_)

    return Row({name: array(name, value) for name, value in tensors.items()})


def answer(router: Any, members: Members, *rows: Row) -> list[Any]:
    return list(router.answer(rows, members))


def items(answer: Any) -> list[str]:
    assert not isinstance(answer, RequestError), answer
    return [item.decode() for item in answer["ITEM_ID"]]


def reasons(answer: Any) -> set[str]:
    return {reason.decode() for reason in answer["REASON_CODE"]}


def error(router: Any, members: Members, wrong: Row) -> RequestError:
    (found,) = router.answer([wrong], members)
    assert isinstance(found, RequestError), found
    return found


def test_known_customers_get_their_own_best_items_without_those_seen(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    rows = [row(CUSTOMER_ID=shop.customer_ids[i], K=k) for i, k in ((3, 5), (4, 1), (9, 30), (0, 7))]
    answers = answer(recommend, members, *rows)
    for (i, k), found in zip(((3, 5), (4, 1), (9, 30), (0, 7)), answers, strict=True):
        ids, scores = shop.recommend(i, k)
        assert items(found) == ids
        np.testing.assert_allclose(found["SCORE"], scores, atol=1e-5)
        assert reasons(found) == {"personal"}
        assert found["RELEASE"].tolist() == [b"7"]
    assert len(members.asked) == 1, "rows of equal padded shape share one call"
    assert len({found["REQUEST_ID"][0] for found in answers}) == 4


def test_a_source_id_leads_to_the_same_customer(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    by_source, by_id, elsewhere = answer(
        recommend,
        members,
        row(SOURCE="web", SOURCE_ID="w11"),
        row(CUSTOMER_ID="c0011"),
        row(SOURCE="app", SOURCE_ID="w11"),
    )
    assert items(by_source) == items(by_id) == shop.recommend(11, 10)[0]
    assert reasons(elsewhere) == {"popular"}


@pytest.mark.parametrize(
    "who",
    [
        {"CUSTOMER_ID": "nobody"},
        {"CUSTOMER_ID": "c0003x"},
        {"CUSTOMER_ID": "c000"},
        {"CUSTOMER_ID": ""},
        {"SOURCE": "web", "SOURCE_ID": "lost"},
        {},
    ],
)
def test_whoever_is_unknown_and_brings_no_history_gets_what_is_popular(
    recommend: RecommendRouter, members: Members, shop: TinyShop, who: dict[str, str]
) -> None:
    (found,) = answer(recommend, members, row(**who))
    assert items(found) == shop.popular(10)
    assert reasons(found) == {"popular"}
    assert not members.asked


def test_a_customer_without_interactions_gets_what_is_popular_in_the_segment_then_overall(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    in_segment, in_none = answer(recommend, members, row(CUSTOMER_ID="c0038"), row(CUSTOMER_ID="c0039"))
    seen = set(shop.seen[38].tolist())
    tastes = [int(i) for i in shop.segment_popular[shop.customer_segment[38]]]
    rest = [i for i in np.argsort(-shop.popularity, kind="stable").tolist() if i not in tastes]
    expected = [shop.item_ids[i] for i in [*tastes, *rest] if i not in seen]
    assert items(in_segment) == expected[:10]
    assert reasons(in_segment) == {"popular_in_segment"}
    assert reasons(in_none) == {"popular"}
    assert items(in_none) == shop.popular(10, exclude=tuple(shop.seen[39].tolist()))


def test_not_personalised_means_that_the_person_is_not_even_looked_up(models: Path, shop: TinyShop) -> None:
    def no_key() -> PseudonymKey:
        raise AssertionError("the key was asked for")

    router = RecommendRouter(models / "recommend", "7", load_key=no_key)
    wish = row(
        SOURCE="web", SOURCE_ID="w3", PERSONALISED=False, HISTORY_ITEM=["item-1"], EXCLUDE=["item-2"], K=4
    )
    (found,) = answer(router, Members(models), wish)
    assert items(found) == shop.popular(4, exclude=(2,))
    assert reasons(found) == {"popular"}


def test_a_history_is_folded_in_as_training_would(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    day = 86_400_000_000
    history = ["item-1", "物品-3", "item-1", "no such item", "item-4", ""]
    events = ["view", "cart", "view", "purchase", "purchase", "view"]
    times = [0, 30 * day, 60 * day, 60 * day, 60 * day, 0]
    wish = row(HISTORY_ITEM=history, HISTORY_EVENT=events, HISTORY_TIME=times, K=6)
    (found,) = answer(recommend, members, wish)
    weight = np.array([0.25 + 1.0, 3.0 * 0.5, 5.0])
    held = np.array([0.05 * (3 + 0.1 * 30) ** 0.5])
    factor = fold_in(np.array([0, 3]), np.array([1, 3, 4]), weight, weight, shop.item_factor, held, 0.1)[0]
    best = shop.ranked(factor.astype(np.float32), exclude=[4], k=6)
    assert items(found) == [shop.item_ids[i] for i in best]
    np.testing.assert_allclose(found["SCORE"], shop.item_factor[best] @ factor, atol=1e-5)
    assert reasons(found) == {"folded_in"}


def test_a_purchase_that_was_returned_says_nothing(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    returned = row(HISTORY_ITEM=["item-1", "item-1"], HISTORY_EVENT=["purchase", "return"])
    (found,) = answer(recommend, members, returned)
    assert reasons(found) == {"popular"}
    assert items(found) == shop.popular(10), "a returned item may be shown again"


def test_a_history_without_anything_known_falls_back_to_popular(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    strange = row(HISTORY_ITEM=["who", "knows"], HISTORY_EVENT=["view", "view"])
    (found,) = answer(recommend, members, strange)
    assert items(found) == shop.popular(10)


def test_exclude_and_allow_are_obeyed_by_every_kind_of_list(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    allow = [shop.item_ids[i] for i in range(0, 30, 2)]
    exclude = [shop.item_ids[i] for i in range(0, 12)]
    limits = {"ALLOW": allow, "EXCLUDE": exclude, "K": 30}
    people = [{"CUSTOMER_ID": "c0003"}, {"CUSTOMER_ID": "nobody"}, {"CUSTOMER_ID": "c0038"}]
    personal, popular, segment = answer(recommend, members, *(row(**who, **limits) for who in people))
    allowed = set(range(12, 30, 2))
    for found in (personal, popular, segment):
        assert set(items(found)) <= {shop.item_ids[i] for i in allowed}
    best = shop.ranked(
        shop.user_factor[3], [*range(12), *shop.seen[3].tolist()], 30, allow=list(range(0, 30, 2))
    )
    assert items(personal) == [shop.item_ids[i] for i in best]
    order = [i for i in np.argsort(-shop.popularity, kind="stable").tolist() if i in allowed]
    assert items(popular) == [shop.item_ids[i] for i in order if shop.popularity[i] > 0]
    assert reasons(segment) == {"popular_in_segment"}
    wanted = {i for i in allowed if shop.popularity[i] > 0 or i in shop.segment_popular[38 % 3]}
    assert set(items(segment)) == {shop.item_ids[i] for i in wanted - set(shop.seen[38].tolist())}


def test_an_allow_of_unknown_items_alone_allows_nothing(recommend: RecommendRouter, members: Members) -> None:
    rows = [row(CUSTOMER_ID=who, ALLOW=["gone", "away"]) for who in ("c0003", "nobody")]
    assert [items(found) for found in answer(recommend, members, *rows)] == [[], []]


def test_long_lists_are_padded_to_few_lengths(
    recommend: RecommendRouter, members: Members, shop: TinyShop
) -> None:
    rows = [row(CUSTOMER_ID="c0003", EXCLUDE=shop.item_ids[:n]) for n in (0, 1, 10, 11, 20, 26)]
    answers = answer(recommend, members, *rows)
    assert {shapes["EXCLUDE_ITEM"][1] for _, shapes in members.asked} == {16, 64}
    for n, found in zip((0, 1, 10, 11, 20, 26), answers, strict=True):
        best = shop.ranked(shop.user_factor[3], [*range(n), *shop.seen[3].tolist()], 10)
        assert items(found) == [shop.item_ids[i] for i in best]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"K": 0}, "K is 0; it must be from 1 to 1000"),
        ({"K": 1001}, "K is 1001"),
        ({"K": -5}, "K is -5"),
        ({"SOURCE": "web"}, "SOURCE_ID is missing"),
        ({"SOURCE_ID": "w3"}, "SOURCE is missing"),
        ({"CUSTOMER_ID": "c0003", "SOURCE": "web", "SOURCE_ID": "w3"}, "not both"),
        ({"CUSTOMER_ID": ["a", "b"]}, "CUSTOMER_ID takes one value, not 2"),
        ({"SOURCE": "web", "SOURCE_ID": b"\xff\xfe"}, "SOURCE_ID is not valid UTF-8"),
        ({"HISTORY_ITEM": ["item-1"], "HISTORY_EVENT": ["stare"]}, "HISTORY_EVENT[0] is no event"),
        ({"HISTORY_ITEM": ["item-1"], "HISTORY_EVENT": ["view", "view"]}, "HISTORY_EVENT has 2"),
        ({"HISTORY_ITEM": ["item-1"], "HISTORY_TIME": [1, 2]}, "HISTORY_TIME has 2"),
        ({"HISTORY_ITEM": ["item-1"] * 10_001}, "at most 10000"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_and_fails_alone(
    recommend: RecommendRouter, members: Members, shop: TinyShop, wrong: dict[str, Any], says: str
) -> None:
    before, failed, after = answer(
        recommend, members, row(CUSTOMER_ID="c0003"), row(**wrong), row(CUSTOMER_ID="c0004")
    )
    assert isinstance(failed, RequestError)
    assert says in str(failed)
    assert failed.code == "INVALID_ARG"
    assert items(before) == shop.recommend(3, 10)[0]
    assert items(after) == shop.recommend(4, 10)[0]


def test_errors_never_repeat_who_was_asked_about(recommend: RecommendRouter, members: Members) -> None:
    for wrong in (
        row(SOURCE="secret-shop", SOURCE_ID="jane@example.org", CUSTOMER_ID="c1"),
        row(CUSTOMER_ID=["jane@example.org", "x"]),
        row(SOURCE_ID="jane@example.org"),
    ):
        assert "jane" not in str(error(recommend, members, wrong))


def test_without_a_key_a_source_cannot_be_looked_up_and_the_remedy_is_named(
    models: Path, members: Members, shop: TinyShop
) -> None:
    def no_key() -> PseudonymKey:
        raise PseudonymKeyError("no pseudonymisation key at /x; make one with 'shopsight key create'")

    router = RecommendRouter(models / "recommend", "7", load_key=no_key)
    failed, served = answer(router, members, row(SOURCE="web", SOURCE_ID="w3"), row(CUSTOMER_ID="c0003"))
    assert isinstance(failed, RequestError)
    assert failed.code == "UNSUPPORTED", "asking again mends nothing"
    assert "shopsight key create" in str(failed)
    assert "/x" not in str(failed)
    assert items(served) == shop.recommend(3, 10)[0]


def test_another_key_than_that_of_training_is_refused_instead_of_finding_nobody(
    models: Path, members: Members
) -> None:
    other = PseudonymKey(key_id="other", secret=b"x")
    router = RecommendRouter(models / "recommend", "7", load_key=lambda: other)
    assert "made with key tiny" in str(error(router, members, row(SOURCE="web", SOURCE_ID="w3")))


def test_profiles_are_measured_and_named(profile: ProfileRouter, members: Members, shop: TinyShop) -> None:
    unseen = [0.5, -1.0, 2.0]
    rows = [row(CUSTOMER_ID="c0007"), row(FEATURE=unseen), row(SOURCE="web", SOURCE_ID="w21")]
    answers = answer(profile, members, *rows)
    features = [shop.feature[7], np.array(unseen, dtype=np.float32), shop.feature[21]]
    for found, feature in zip(answers, features, strict=True):
        segment = shop.segments[shop.segment_of(feature)]
        assert found["SEGMENT"].tolist() == [segment["name"].encode()]
        assert found["SEGMENT_DESCRIPTION"].tolist() == [segment["description"].encode()]
        assert found["FEATURE_NAME"].tolist() == [b"feature_0", b"feature_1", b"feature_2"]
        np.testing.assert_array_equal(found["FEATURE_VALUE"], np.nan_to_num(feature, nan=0.0))
        assert (
            found["MISSING"].tolist()[: np.isnan(feature).sum()] == [b"feature_0"] * np.isnan(feature).sum()
        )
    assert answers[0]["MISSING"].tolist() == [b"feature_0", b"EXPECTED_PURCHASES_MISS"], (
        "what was not measured is named"
    )
    assert len(members.asked) == 1


def test_forecasts_are_told_of_who_bought_and_are_missing_for_others(
    profile: ProfileRouter, members: Members, shop: TinyShop
) -> None:
    names = [spec.name for spec in FORECAST]
    bought, never, unseen = answer(
        profile, members, row(CUSTOMER_ID="c0003"), row(CUSTOMER_ID="c0005"), row(FEATURE=[0.5, -1.0, 2.0])
    )
    assert [bought[name][0] for name in names] == shop.forecast[3].tolist()
    untested = b"EXPECTED_PURCHASES_MISS"
    assert bought["MISSING"].tolist() == [untested]
    for found in (never, unseen):
        assert [found[name][0] for name in names] == [0.0] * len(names)
        assert found["MISSING"].tolist() == [*(name.encode() for name in names), untested]
    for found in (bought, never, unseen):
        assert (found["CURRENCY"].tolist(), found["HORIZON_DAYS"].tolist()) == ([b"EUR"], [90])
        assert [found[f"{name}_STATUS"][0] for name in ("VALUE", "EXPECTED_PURCHASES", "CHURN")] == [
            b"widened", b"untested", b"tested"
        ]  # fmt: skip
        assert found["VALUE_REASON"].tolist() == [b"missed by 25%"] and found["VALUE_MISS"][0] == 0.25


def test_an_unknown_customer_has_no_profile(profile: ProfileRouter, members: Members) -> None:
    failed = error(profile, members, row(CUSTOMER_ID="nobody"))
    assert failed.code == "NOT_FOUND"
    assert "send FEATURE" in str(failed)
    assert "no customer is named" in str(error(profile, members, row()))
    assert "FEATURE has 2 values, this release measures 3" in str(
        error(profile, members, row(FEATURE=[1.0, 2.0]))
    )


def test_messages_are_understood_in_one_call_for_each_length(
    understand: UnderstandRouter, members: Members, shop: TinyShop
) -> None:
    texts = [["where"], ["谢谢"], ["money", "back", "?"], ["is"] * 9, ["lovely", "parcel", "my", "is"]]
    rows = [row(TEXT=" ".join(words)) for words in texts]
    rows.insert(2, row(TEXT="   "))
    answers = answer(understand, members, *rows)
    assert isinstance(answers.pop(2), RequestError)
    for words, found in zip(texts, answers, strict=True):
        intent, confidence, sentiment = shop.understand(words)
        assert found["INTENT"].tolist() == [intent.encode()]
        assert found["SENTIMENT"].tolist() == [sentiment.encode()]
        np.testing.assert_allclose(found["CONFIDENCE"], [confidence], atol=1e-6)
        assert found["IS_OUT_OF_SCOPE"].tolist() == [confidence < SURE_FROM]
        assert "ANSWER" not in found
    assert len({bool(found["IS_OUT_OF_SCOPE"][0]) for found in answers}) == 2
    assert sorted(shapes["TOKEN_ID"] for _, shapes in members.asked) == [(1, 16), (4, 4)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "TEXT is empty"),
        (" \n\u3000".encode(), "TEXT is empty"),
        (b"x" * 201, "TEXT has 201 bytes, at most 200"),
        (b"where is \xff", "not valid UTF-8 (byte 9)"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(
    understand: UnderstandRouter, members: Members, text: bytes, says: str
) -> None:
    assert says in str(error(understand, members, row(TEXT=text)))


class Routers:
    """Stands in for Triton when `insight` asks the other routers."""

    def __init__(self, routers: Mapping[str, Any], members: Members) -> None:
        self.routers, self.members = routers, members
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, model: str, inputs: Mapping[str, Array], request_id: str) -> dict[str, Array]:
        count = len(next(iter(inputs.values())))
        self.asked.append((model, count))
        rows = [Row({name: value[i] for name, value in inputs.items()}, request_id) for i in range(count)]
        answers = self.routers[model].answer(rows, self.members)
        for found in answers:
            if isinstance(found, RequestError):
                raise found
        return {name: stacked([found[name] for found in answers]) for name in answers[0]}


def test_insights_of_many_customers_ask_each_router_once(
    models: Path, members: Members, shop: TinyShop, recommend: RecommendRouter, profile: ProfileRouter
) -> None:
    routers = Routers({"recommend": recommend, "profile": profile}, members)
    rows = [row(CUSTOMER_ID=f"c{i:04d}", K=i + 1) for i in range(12)]
    answers = asyncio.run(InsightRouter(models / "insight", "7").answer(rows, routers))
    assert sorted(routers.asked) == [("profile", 12), ("recommend", 12)]
    for i, found in enumerate(answers):
        insight = json.loads(found["INSIGHT"][0])  # type: ignore[index]
        ids, scores = shop.recommend(i, i + 1)
        assert [r["item_id"] for r in insight["recommendations"]] == ids
        assert [r["score"] for r in insight["recommendations"]] == pytest.approx(scores, abs=1e-5)
        assert insight["profile"]["segment"] == shop.segments[shop.segment_of(shop.feature[i])]["name"]


def test_insight_joins_the_others_and_each_row_fails_alone(
    models: Path,
    members: Members,
    shop: TinyShop,
    recommend: RecommendRouter,
    profile: ProfileRouter,
    understand: UnderstandRouter,
) -> None:
    routers = Routers({"recommend": recommend, "profile": profile, "understand": understand}, members)
    router = InsightRouter(models / "insight", "7")
    rows = [
        Row(row(CUSTOMER_ID="c0003", TEXT="where is my parcel", K=2).tensors, "asked-1"),
        row(CUSTOMER_ID="nobody", K=3),
        row(TEXT="lovely"),
        row(K=3),
        row(CUSTOMER_ID="c0003", TEXT="x" * 300),
        row(CUSTOMER_ID="c0003", K=0),
    ]
    known, unknown, message, nothing, long, zero = asyncio.run(router.answer(rows, routers))
    found = json.loads(known["INSIGHT"][0])  # type: ignore[index]
    ids, _ = shop.recommend(3, 2)
    intent, confidence, sentiment = shop.understand(["where", "is", "my", "parcel"])
    assert (found["schema_version"], found["release"], found["request_id"]) == (1, "7", "asked-1")
    assert [r["item_id"] for r in found["recommendations"]] == ids
    assert found["profile"]["segment"] == shop.segments[shop.segment_of(shop.feature[3])]["name"]
    assert found["understanding"]["intent"] == intent
    assert found["understanding"]["confidence"] == pytest.approx(confidence, abs=1e-6)
    assert found["understanding"]["sentiment"] == sentiment
    assert found["understanding"]["is_out_of_scope"] == (confidence < SURE_FROM)
    stranger = json.loads(unknown["INSIGHT"][0])  # type: ignore[index]
    assert stranger["profile"] is None
    assert stranger["understanding"] is None
    assert [r["item_id"] for r in stranger["recommendations"]] == shop.popular(3)
    alone = json.loads(message["INSIGHT"][0])  # type: ignore[index]
    assert alone["understanding"]["intent"] == shop.understand(["lovely"])[0]
    assert "profile" not in alone and "recommendations" not in alone
    assert "nothing is asked" in str(nothing)
    assert "TEXT has 300 bytes" in str(long)
    assert "K is 0" in str(zero)


def test_missing_features_are_null_in_the_insight(
    models: Path, members: Members, recommend: RecommendRouter, profile: ProfileRouter
) -> None:
    routers = Routers({"recommend": recommend, "profile": profile}, members)
    (found,) = asyncio.run(InsightRouter(models / "insight", "7").answer([row(CUSTOMER_ID="c0007")], routers))
    assert json.loads(found["INSIGHT"][0])["profile"]["features"]["feature_0"] is None  # type: ignore[index]


def test_an_insight_tells_the_forecast_or_that_there_is_none(
    models: Path, members: Members, shop: TinyShop, recommend: RecommendRouter, profile: ProfileRouter
) -> None:
    routers = Routers({"recommend": recommend, "profile": profile}, members)
    rows = [row(CUSTOMER_ID="c0003"), row(CUSTOMER_ID="c0005")]
    answers = asyncio.run(InsightRouter(models / "insight", "7").answer(rows, routers))
    bought, never = (json.loads(found["INSIGHT"][0])["profile"]["forecast"] for found in answers)  # type: ignore[index]
    assert bought == shop.told(3) and bought["horizon_days"] == 90
    assert never is None
