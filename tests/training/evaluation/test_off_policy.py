"""Off-policy estimates of simulated logs whose value is known, and logs that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shopsight.training.evaluation.off_policy import BadLog, Estimate, doubly_robust, ips, snips

_NUM_LOGS, _NUM_ROWS, _NUM_ITEMS, _NUM_KINDS = 2000, 1000, 6, 3
_METHODS = ("ips", "snips", "doubly robust")


class World:
    """Customers of three kinds, six items, a logging and a target policy, and the target's true value."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.kinds = np.array([0.5, 0.3, 0.2])
        self.logging = rng.dirichlet(np.full(_NUM_ITEMS, 4.0), _NUM_KINDS)
        self.target = 0.6 * rng.dirichlet(np.full(_NUM_ITEMS, 2.0), _NUM_KINDS) + 0.4 * self.logging
        self.click = rng.uniform(0.05, 0.5, (_NUM_KINDS, _NUM_ITEMS))
        self.model = np.clip(self.click + rng.normal(0, 0.1, self.click.shape), 0, 1)  # a model that is wrong
        self.value = float(self.kinds @ (self.target * self.click).sum(axis=1))

    def log(
        self, rng: np.random.Generator, num_rows: int = _NUM_ROWS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kind = rng.choice(_NUM_KINDS, num_rows, p=self.kinds)
        item = (rng.random(num_rows)[:, None] > np.cumsum(self.logging, axis=1)[kind]).sum(axis=1)
        item = np.minimum(item, _NUM_ITEMS - 1)
        reward = (rng.random(num_rows) < self.click[kind, item]).astype(np.float64)
        return kind, item, reward

    def estimates(
        self, kind: np.ndarray, item: np.ndarray, reward: np.ndarray, group: Any = None
    ) -> list[Estimate]:
        rows = (reward, self.logging[kind, item], self.target[kind, item])
        expected = (self.target * self.model).sum(axis=1)[kind]
        predictions = {"predicted": self.model[kind, item], "predicted_target": expected}
        return [
            ips(*rows, group=group),
            snips(*rows, group=group),
            doubly_robust(*rows, **predictions, group=group),
        ]


def _coverage(world: World, draw: Callable[[np.random.Generator], list[Estimate]]) -> dict[str, float]:
    rng = np.random.default_rng(1)
    covered = np.array(
        [[one.low <= world.value <= one.high for one in draw(rng)] for _ in range(_NUM_LOGS)],
        dtype=np.float64,
    )
    return dict(zip(_METHODS, covered.mean(axis=0), strict=True))


def test_intervals_of_2000_logs_hold_the_known_value() -> None:
    world = World(0)
    found = _coverage(world, lambda rng: world.estimates(*world.log(rng)))
    assert all(0.94 <= share <= 0.96 for share in found.values()), found


def test_rows_of_one_request_are_one_draw() -> None:
    world = World(0)

    def draw(rng: np.random.Generator) -> list[Estimate]:
        kind, item, reward = world.log(rng, _NUM_ROWS // 2)
        group = np.arange(_NUM_ROWS) % (_NUM_ROWS // 2)
        return world.estimates(*(np.tile(one, 2) for one in (kind, item, reward)), group=group)

    found = _coverage(world, draw)
    assert all(0.94 <= share <= 0.96 for share in found.values()), found


def test_estimates_equal_their_formulas() -> None:
    world = World(3)
    kind, item, reward = world.log(np.random.default_rng(0), 50)
    weight = [world.target[k, i] / world.logging[k, i] for k, i in zip(kind, item, strict=True)]
    told = world.estimates(kind, item, reward)
    corrected = [
        float(world.target[k] @ world.model[k]) + w * (r - world.model[k, i])
        for k, i, r, w in zip(kind, item, reward, weight, strict=True)
    ]
    by_hand = [
        sum(w * r for w, r in zip(weight, reward, strict=True)) / 50,
        sum(w * r for w, r in zip(weight, reward, strict=True)) / sum(weight),
        sum(corrected) / 50,
    ]
    assert [one.value for one in told] == pytest.approx(by_hand)
    assert told[0].effective_sample_size == pytest.approx(sum(weight) ** 2 / sum(w * w for w in weight))
    assert told[2].high - told[2].value == pytest.approx(
        2.0096 * np.std(corrected, ddof=1) / np.sqrt(50), rel=1e-3
    )


def test_the_logging_policy_itself_has_the_mean_reward_and_no_warning() -> None:
    reward, propensity = np.random.default_rng(0).random(500), np.full(500, 0.25)
    for one in (ips(reward, propensity, propensity), snips(reward, propensity, propensity)):
        assert one.value == pytest.approx(reward.mean()) and one.effective_sample_size == pytest.approx(500)
        assert one.warnings == ()


def test_a_good_model_of_the_reward_makes_the_estimate_surer() -> None:
    world = World(0)
    world.model = world.click
    kind, item, _ = world.log(np.random.default_rng(0))
    of_scores, _, robust = world.estimates(kind, item, world.click[kind, item])
    assert robust.high - robust.low < 0.5 * (of_scores.high - of_scores.low)


def test_poor_overlap_is_told() -> None:
    rng = np.random.default_rng(0)
    reward = rng.random(1000)
    propensity = np.full(1000, 0.5)
    propensity[7] = 0.0005
    found = ips(reward, propensity, np.full(1000, 0.5)).warnings
    assert (
        len(found) == 2
        and "effective sample size is" in found[0]
        and "row 7 has 50% of all weight" in found[1]
    )
    (never_shown,) = ips(reward, np.full(1000, 0.5), np.full(1000, 0.2)).warnings
    assert "the weights have mean 0.400 where 1 is expected" in never_shown
    (few,) = ips(reward[:20], np.full(20, 0.5), np.full(20, 0.5)).warnings
    assert "effective sample size is 20 of 20 rows" in few


_ONE = np.full(3, 0.5)


@pytest.mark.parametrize(
    ("reward", "propensity", "target", "message"),
    [
        ([], [], [], "no rows"),
        ([1.0], [0.5], [0.5], "one row or one group"),
        (
            _ONE,
            [0.5, np.nan, 0.5],
            _ONE,
            "propensity is missing or not finite in 1 of 3 rows, first in row 1",
        ),
        (_ONE, [None] * 3, _ONE, "propensity is missing or not finite in 3 of 3 rows"),
        ([1.0, np.inf, 0.0], _ONE, _ONE, "reward is missing or not finite in 1 of 3 rows"),
        (_ONE, [0.5, 0.0, 0.5], _ONE, r"propensity\[1\] = 0 \(1 such rows\): must be above 0"),
        (_ONE, [0.5, 0.5, 40.0], _ONE, r"propensity\[2\] = 40"),
        (_ONE, _ONE, [0.5, -0.1, 2.0], r"target\[1\] = -0.1 \(2 such rows\)"),
        (_ONE, [0.5], _ONE, "propensity has 1 rows where reward has 3"),
        (np.ones((3, 2)), _ONE, _ONE, r"reward has shape \(3, 2\)"),
    ],
)
@pytest.mark.parametrize("method", [ips, snips])
def test_logs_that_cannot_be_used(
    method: Any, reward: Any, propensity: Any, target: Any, message: str
) -> None:
    with pytest.raises(BadLog, match=message):
        method(reward, propensity, target)
    if len(reward):
        with pytest.raises(BadLog, match=message):
            doubly_robust(reward, propensity, target, predicted=_ONE, predicted_target=_ONE)


def test_a_policy_that_shows_nothing_of_the_log() -> None:
    assert ips(_ONE, _ONE, np.zeros(3)).value == 0
    with pytest.raises(BadLog, match="target is 0 in all 3 rows"):
        snips(_ONE, _ONE, np.zeros(3))
    with pytest.raises(BadLog, match="one row or one group"):
        ips(_ONE, _ONE, _ONE, group=[4, 4, 4])
    with pytest.raises(BadLog, match="predicted has 1 rows where reward has 3"):
        doubly_robust(_ONE, _ONE, _ONE, predicted=[0.5], predicted_target=_ONE)
