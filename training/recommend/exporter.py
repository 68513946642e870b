"""Export the recommender: the member `mf_retrieval` and the data of the router `recommend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from shopsight.serving.contract import METRICS_FILE, Golden, TensorSpec, write_goldens, write_json
from shopsight.serving.routing.items import ITEMS_FILE
from shopsight.serving.routing.people import CUSTOMERS_FILE, IDENTITIES_FILE
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import RequestError, Row
from shopsight.serving.routing.tensors import RECOMMEND
from shopsight.training.artifacts.goldens import golden, member, members_of
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import NotTrained, TrainedState
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.people_files import write_people
from shopsight.training.profiles.checkpoint import load as load_profiles
from shopsight.training.recommend.blending import MEMBERS, Blend, read_blend
from shopsight.training.recommend.checkpoint import Trained, load_current
from shopsight.training.recommend.cold_items import with_cold_items
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.graph import MAX_BATCH_SIZE, write_retrieval_graph
from shopsight.training.recommend.rules import ItemFacts, item_facts
from shopsight.training.recommend.segment_popularity import best, by_segment, segment_of
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.suppression import suppressions

Array = NDArray[Any]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]

_MODEL = "model.onnx"
_CLEAR_MARGIN = 1e-4  # least difference of neighbours in a golden list, so that rounding keeps their order
_GOLDEN_K = 5
_ANSWERED = ["ITEM_ID", "SCORE", "REASON_CODE"]


@on_one_snapshot
def export(workspace: Workspace, config: RecommendConfig) -> list[Path]:
    """Write models/mf_retrieval and models/recommend; raises NotTrained when the tables changed since."""
    state, trained = load_current(workspace)
    shop, blend = Shop(workspace, config), read_blend(workspace, config, trained)
    facts = item_facts(shop)
    factors, cold = with_cold_items(shop, trained.final)
    with model_folder(workspace, "mf_retrieval") as folder:
        _write_member(folder, state, trained, factors, ~facts.sellable)
    reasons, suppressed = suppressions(shop)
    blended = blend or Blend({}, {})
    with model_folder(workspace, "recommend") as folder:
        arrays = {"suppressed": suppressed, **blended.customers}
        key_id = _write_data(folder, shop, trained, facts, cold, arrays)
        _write_router(
            folder, workspace, state, trained, config,
            {"key_id": key_id, "suppressed": reasons, "blend": blended.settings or None},
        )  # fmt: skip
    return [workspace.models / "mf_retrieval", workspace.models / "recommend"]


def _write_member(
    folder: Path,
    state: TrainedState,
    trained: Trained,
    factors: NDArray[np.float32],
    blocked: NDArray[np.bool_],
) -> None:
    write_retrieval_graph(factors, blocked, folder / _MODEL)
    ask = member(folder / _MODEL)
    goldens = [_member_golden(ask, factor, len(factors)) for factor in _synthetic_factors(factors)]
    write_goldens(folder, goldens)
    write_json(folder / METRICS_FILE, trained.metrics)
    write_contract(
        folder,
        data_sha256=state.data_sha256,
        name="mf_retrieval",
        kind="onnx",
        inputs=[
            TensorSpec("USER_FACTOR", "FP32", (factors.shape[1],)),
            TensorSpec("EXCLUDE_ITEM", "INT64", (-1,)),
            TensorSpec("ALLOW_ITEM", "INT64", (-1,)),
            TensorSpec("K", "INT64", (1,)),
        ],
        outputs=[TensorSpec("ITEM_INDEX", "INT64", (-1,)), TensorSpec("SCORE", "FP32", (-1,))],
        max_batch_size=MAX_BATCH_SIZE,
        files=[_MODEL],
        config=trained.config,
    )


def _synthetic_factors(item_factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return synthetic customers, float32 [3, f], each the mean of four items drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    parts = rng.integers(0, len(item_factors), (3, 4))
    return np.ascontiguousarray(item_factors[parts].mean(axis=1), dtype=np.float32)


def _member_golden(ask: Ask, factor: NDArray[np.float32], num_items: int) -> Golden:
    request: dict[str, Array] = {
        "USER_FACTOR": factor,
        "EXCLUDE_ITEM": np.array([0, -1, -1], dtype=np.int64),
        "ALLOW_ITEM": np.array([-1, -1], dtype=np.int64),
        "K": np.array([num_items], dtype=np.int64),
    }
    everything = _first(ask("mf_retrieval", {name: value[None] for name, value in request.items()}))
    request["K"] = np.array([clear_length(everything["SCORE"])], dtype=np.int64)
    answer = _first(ask("mf_retrieval", {name: value[None] for name, value in request.items()}))
    return golden(request, answer, ["ITEM_INDEX", "SCORE"])


def clear_length(score: Array) -> int:
    """Return how many of the first places differ clearly in score, at least 1 and at most _GOLDEN_K."""
    shown = score[np.isfinite(score)][: _GOLDEN_K + 1]
    close = np.flatnonzero(-np.diff(shown) < _CLEAR_MARGIN)
    return max(1, int(close[0]) if len(close) else min(_GOLDEN_K, len(shown)))


def _first(answer: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[0] for name, value in answer.items()}


def _write_data(
    folder: Path,
    shop: Shop,
    trained: Trained,
    facts: ItemFacts,
    cold: NDArray[np.bool_],
    more: Mapping[str, Array],
) -> str:
    """Write the router's three data files; returns the id of the identities' key.

    seen_item: the items that a customer bought and kept, which the router leaves out if
    preprocessing.filter_viewed is set; segment: -1 without trained profiles; personalised: 0 for customers
    who forbid personalisation, of whom nothing was learned. more: further arrays of customers.
    """
    end, known = shop.windows.end, trained.catalogue
    bought = shop.bought(end)
    try:
        segment = segment_of(known, load_profiles(shop.workspace).assigned)
    except NotTrained:
        segment = np.full(known.shape[0], -1, dtype=np.int32)
    num_segments = int(segment.max(initial=-1)) + 1
    popular = np.empty((0, shop.config.num_popular), dtype=np.int32)
    if num_segments:
        wanted = by_segment(shop, segment.astype(np.int64), end) * facts.sellable
        popular = best(wanted, shop.config.num_popular)
    encoded = [item_id.encode() for item_id in known.item_ids]
    offsets = np.concatenate([[0], np.cumsum([len(item_id) for item_id in encoded])]).astype(np.int64)
    save_file(
        {
            "item_id": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "item_id_offset": offsets,
            "item_factor": np.ascontiguousarray(trained.final.item_factors, dtype=np.float32),
            "popularity": np.where(facts.sellable, shop.popularity(end), np.float32(0)),
            "segment_popular": popular,
            "category": facts.category,
            "sellable": facts.sellable.astype(np.uint8),
            "cold": cold.astype(np.uint8),
        },
        folder / ITEMS_FILE,
    )
    arrays = {
        "user_factor": np.ascontiguousarray(trained.final.user_factors, dtype=np.float32),
        "seen_indptr": bought.indptr.astype(np.int64),
        "seen_item": bought.indices.astype(np.int32),
        "segment": np.where(shop.personalised, segment, np.int32(-1)),
        "personalised": shop.personalised.astype(np.uint8),
        **more,
    }
    return write_people(folder, shop.workspace, known.customer_ids, arrays)


def _write_router(
    folder: Path,
    workspace: Workspace,
    state: TrainedState,
    trained: Trained,
    config: RecommendConfig,
    preprocessing: Mapping[str, Any],
) -> None:
    """Write the contract and the goldens of the router.

    preprocessing has all that folding in a history needs: event_weights (a return takes back a purchase; a
    rating does not count here, because a request carries no stars), half_life_days and half_life_steps
    (counted back from the latest event of the history), objective, alpha, unobserved_weight, regularization
    and its exponent (as serving/routing/history.py reads them); filter_viewed: whether items bought before
    are left out; key_id of the key that hashed the identities; max_per_category; suppressed: the meaning of
    the codes in the array `suppressed`; suppressing_intents: the intents among them; blend: the settings that
    serving/routing/blend.py reads. `preprocessing` has key_id, suppressed and blend.
    """
    members = ("mf_retrieval", *(MEMBERS if preprocessing["blend"] else ()))
    write_json(folder / METRICS_FILE, trained.metrics)
    weights = dict(trained.config["event_weights"])
    weights |= {"rating": 0.0, "review": 0.0}
    write_contract(
        folder,
        data_sha256=state.data_sha256,
        name="recommend",
        kind="router",
        inputs=RECOMMEND.inputs,
        outputs=RECOMMEND.outputs,
        max_batch_size=RECOMMEND.max_batch_size,
        files=[CUSTOMERS_FILE, IDENTITIES_FILE, ITEMS_FILE],
        calls=members,
        preprocessing={
            "event_weights": weights,
            "half_life_days": trained.config["half_life_days"],
            "half_life_steps": trained.config.get("half_life_steps", 0.0),
            "objective": trained.final.config.objective,
            "alpha": trained.final.config.alpha,
            "unobserved_weight": trained.choice.unobserved_weight,
            "regularization": trained.choice.regularization,
            "regularization_exponent": trained.config["regularization_exponent"],
            "filter_viewed": not trained.choice.bought_again,
            "max_per_category": config.rules.max_per_category,
            "suppressing_intents": list(config.suppression.intents) if config.suppression.days else [],
            **preprocessing,
        },
        config=trained.config,
    )
    router = RecommendRouter(folder, release="0")
    ask = members_of({name: workspace.models / name / _MODEL for name in members})
    goldens = [_router_golden(router, ask, request) for request in _synthetic_requests(trained)]
    write_goldens(folder, [one for one in goldens if one is not None])


def _synthetic_requests(trained: Trained) -> list[dict[str, Array]]:
    """Return requests of synthetic customers, with histories of real items."""
    ids = trained.catalogue.item_ids
    rng = np.random.default_rng(0)
    chosen = [ids[int(i)] for i in rng.permutation(len(ids))[:4]]
    nobody, day = _texts("golden-nobody"), 86_400_000_000
    times = 1_700_000_000_000_000 + day * np.arange(len(chosen), dtype=np.int64)
    history = {
        "HISTORY_ITEM": _texts(*chosen),
        "HISTORY_EVENT": _texts(*["view", "purchase", "cart", "view"][: len(chosen)]),
        "HISTORY_TIME": times,
    }
    return [
        {"CUSTOMER_ID": nobody},
        {"CUSTOMER_ID": nobody, **history},
        {"CUSTOMER_ID": nobody, "HISTORY_ITEM": _texts(*chosen[:2])},
        {"CUSTOMER_ID": nobody, **history, "PERSONALISED": np.array([False])},
        {"CUSTOMER_ID": nobody, **history, "EXCLUDE": _texts(*chosen)},
        {"CUSTOMER_ID": nobody, **history, "ALLOW": _texts(*chosen[:3])},
    ]


def _router_golden(router: RecommendRouter, ask: Ask, request: dict[str, Array]) -> Golden | None:
    """Return a golden with a list of clearly different scores; None if there is no such list."""
    everything = router.answer([Row(request | {"K": np.array([_GOLDEN_K + 1], np.int32)})], ask)[0]
    if isinstance(everything, RequestError) or not len(everything["SCORE"]):
        return None
    request = request | {"K": np.array([clear_length(everything["SCORE"])], dtype=np.int32)}
    answer = router.answer([Row(request)], ask)[0]
    return None if isinstance(answer, RequestError) else golden(request, answer, _ANSWERED)


def _texts(*values: str) -> Array:
    return np.array([value.encode() for value in values], dtype=np.object_)
