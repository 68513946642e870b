"""Quality of the two towers, the ranker and the blend on public sets, with implicit ALS, EASE and popularity.

    python -m benchmarks.quality_embedding                            the frozen settings, on the test cut
    python -m benchmarks.quality_embedding online_retail --search     how all were chosen: on validation alone

Nothing is learned or chosen from the test cut. Each figure is a mean over customers, then over three seeds,
with the seeds' standard deviation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.blended import NUM_CANDIDATES, WEIGHTS, blended, ranker_config
from benchmarks.embedding_sets import ITEM_BUCKETS, SETS, EmbeddingSet
from benchmarks.quality_recommend import CHOSEN as MF_ON_OTHERS
from benchmarks.quality_recommend import EASE_REGULARIZATION
from benchmarks.recommend_methods import Factorised, Floor, Settings, asked_users, figures
from benchmarks.recommend_search import Space, search
from benchmarks.runner import RESULTS, commit, device_name, versions
from shopsight.training.evaluation.baselines import EASE, Popularity
from shopsight.training.recommend.embedding.config import FeatureConfig, LoopConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.fitting import fit
from shopsight.training.recommend.embedding.group import process_group
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask
from shopsight.training.recommend.embedding.two_tower import TwoTower, load_towers
from shopsight.training.recommend.mf.config import MFConfig

BENCH = "quality_embedding"
SEEDS = (0, 1, 2)
TOWERS, RANKER, BLEND = "two towers", "two towers in the ranker's order", "blend"
RANKER_EPOCHS = {"online_retail": 2, "ml1m": 1}
Say = Callable[[str], None]
Scores = list[tuple[float, float]]  # (recall, NDCG) for each way of masking


@dataclass(frozen=True)
class Towers:
    """Settings of the two towers."""

    config: TwoTowerConfig
    with_repeats: bool = False
    features: FeatureConfig = field(default_factory=lambda: FeatureConfig(item_buckets=ITEM_BUCKETS))


def towers(epochs: int, **settings: Any) -> Towers:
    """The settings that all trials share, with some of them otherwise."""
    loop = LoopConfig(epochs=epochs, batch_size=settings.pop("batch_size", 2048), patience=0)
    history = {
        name: settings.pop(name)
        for name in ("max_history", "num_recent", "bucket_share", "history_dropout")
        if name in settings
    }
    rate = settings.pop("embedding_learning_rate", loop.embedding_learning_rate)
    repeats = settings.pop("with_repeats", False)
    config = TwoTowerConfig(loop=replace(loop, embedding_learning_rate=rate), **settings)
    return Towers(config, repeats, FeatureConfig(item_buckets=ITEM_BUCKETS, **history))


_RETAIL = {"max_history": 200, "num_recent": 30, "embedding_learning_rate": 0.05}
_THINNED = _RETAIL | {"layers": (), "history_dropout": 0.5}
# Tried one after the other, each with the figures of every epoch; what had the best NDCG is frozen below.
TRIALS: dict[str, list[Towers]] = {
    "online_retail": [
        towers(4, embedding_learning_rate=0.1),
        towers(3, **_RETAIL),
        towers(2, **_RETAIL, temperature=0.2, popularity_correction=0.5, history_dropout=0.5),
        towers(8, **_THINNED),
    ],
    "ml1m": [
        towers(2, bucket_share=0.0),
        towers(2, bucket_share=0.0, temperature=0.07),
        towers(2, bucket_share=0.0, popularity_correction=0.5),
        towers(2, bucket_share=0.0, temperature=0.05, batch_size=1024),
        towers(2, bucket_share=0.0, embedding_learning_rate=0.1),
    ],
}
CHOSEN: dict[str, Towers] = {
    "online_retail": towers(5, **_THINNED),
    "ml1m": towers(2, bucket_share=0.0, embedding_learning_rate=0.1),
}
MF_SPACE = Space(
    Settings(
        MFConfig(
            num_factors=64,
            unobserved_weight=0.3,
            regularization=3.0,
            regularization_exponent=0.0,
            num_epochs=8,
        )
    ),
    {
        "half_life_asked": (np.inf, 16.0, 8.0, 4.0),
        "half_life": (np.inf, 16.0, 8.0, 4.0),
        "unobserved_weight": (0.03, 0.1, 0.3, 1.0),
        "regularization": (0.3, 1.0, 3.0, 10.0, 30.0),
        "degree_exponent": (0.0, 0.2, 0.4),
        "num_factors": (32, 64, 128, 256),
    },
    (-0.1, 0.0, 0.1),
    10_000,
)
MF_CHOSEN: dict[str, Settings] = {
    "online_retail": Settings(
        MFConfig(
            num_factors=256,
            unobserved_weight=1.0,
            regularization=10.0,
            regularization_exponent=0.0,
            num_epochs=8,
        ),
        popularity_exponent=0.1,
        half_life_asked=4.0,
    ),
    "ml1m": MF_ON_OTHERS["ml1m"],
}
EASE_TRIED = (30.0, 100.0, 300.0, 1000.0)
EASE_CHOSEN = {"online_retail": 300.0, "ml1m": EASE_REGULARIZATION["ml1m"]}


def judged(chosen: EmbeddingSet, settings: Towers, test: bool, say: Say) -> dict[str, Scores]:
    """Fit the towers, and for the test the ranker too, to the past; return the figures of each method."""
    split, public = chosen.split(test), chosen.public
    seed = settings.config.loop.seed
    with tempfile.TemporaryDirectory() as scratch:
        examples = split.examples(Path(scratch) / "examples", settings.with_repeats)
        asked = split.asked(examples, public.k, masked=True)
        task = TwoTowerTask(
            public.name, examples, settings.features, settings.config,
            data_sha256="", asked=None if test else asked,
        )  # fmt: skip
        began = time.monotonic()
        fit(task, settings.config.loop, Path(scratch) / "fit", progress=say)
        say(f"{public.name} seed {seed}: fitted in {time.monotonic() - began:.0f} s")
        model = load_towers(TwoTower(examples.schema, settings.config, "cpu"), Path(scratch) / "fit")
        with process_group() as group:
            items = task.item_vectors(model, group)
            customers = np.concatenate([part[2] for part in task.customer_vectors(model, asked, group)])
        wide = replace(asked, k=NUM_CANDIDATES)
        towers = wide.lists(customers, items, 0, len(customers))
        found = {TOWERS: [figures(towers[:, : public.k], asked.relevant)]}
        if test:
            cut, mf = public.read_test(), MF_CHOSEN[public.name]
            model_mf = Factorised(replace(mf, config=replace(mf.config, seed=seed)), cut)
            lists = {
                "factorised": model_mf.lists(asked.customer, wide.k, True, mf.popularity_exponent),
                "towers": towers,
                "popular": Floor("popularity", Popularity).lists(cut, asked.customer, wide.k, (True,))[0],
            }
            config = ranker_config(RANKER_EPOCHS[public.name], seed)
            where = Path(scratch) / "ranker"
            fused, ranked = blended(lists, examples, settings.features, config, asked, where, say)
            found |= {BLEND: [figures(fused, asked.relevant)], RANKER: [figures(ranked, asked.relevant)]}
    return found


def factorised(chosen: EmbeddingSet, settings: Settings, seed: int) -> Scores:
    """The same of the implicit factorisation."""
    public, cut = chosen.public, chosen.public.read_test()
    users = asked_users(cut.held_out)
    model = Factorised(replace(settings, config=replace(settings.config, seed=seed)), cut)
    lists = [model.lists(users, public.k, m, settings.popularity_exponent) for m in public.masked]
    return [figures(ids, cut.held_out[users]) for ids in lists]


def floor(chosen: EmbeddingSet, method: Floor, test: bool = True) -> Scores:
    """The same of a method without a seed."""
    public = chosen.public
    cut = public.read_test() if test else public.read_validation()
    users = asked_users(cut.held_out)
    return [figures(ids, cut.held_out[users]) for ids in method.lists(cut, users, public.k, public.masked)]


def choose(chosen: EmbeddingSet, say: Say, console: Console) -> None:
    """Print what every setting reaches on the validation cut."""
    for settings in TRIALS[chosen.public.name]:
        say(f"{settings}")
        judged(chosen, settings, False, say)
    if chosen.public.name not in EASE_REGULARIZATION:
        for strength in EASE_TRIED:
            method = Floor("EASE", lambda strength=strength: EASE(strength))
            say(f"EASE {strength:g}: {floor(chosen, method, test=False)}")
        search(chosen.public, MF_SPACE, console)


def rows_of(chosen: EmbeddingSet, say: Say) -> list[dict[str, Any]]:
    """Measure one set on its test cut; returns a row for each method of ours, metric and peer."""
    ours = [of_seed(chosen, seed, say) for seed in SEEDS]
    by_method = {name: [one[name] for one in ours] for name in ours[0]}
    peers = peers_of(chosen, say)
    peers[TOWERS] = (by_method[TOWERS], asdict(CHOSEN[chosen.public.name]))
    return [
        _row(chosen, method, (0, at), np.array(scores), name, np.array(beside), about)
        for method, scores in by_method.items()
        for at in range(len(chosen.public.metrics))
        for name, (beside, about) in peers.items()
        if name != method
    ]


def of_seed(chosen: EmbeddingSet, seed: int, say: Say) -> dict[str, Scores]:
    """The figures of the frozen settings on the test cut, from one start."""
    settings = CHOSEN[chosen.public.name]
    loop = replace(settings.config.loop, seed=seed)
    found = judged(chosen, replace(settings, config=replace(settings.config, loop=loop)), True, say)
    say(f"{chosen.public.name}, seed {seed}: {found}")
    return found


def peers_of(chosen: EmbeddingSet, say: Say) -> dict[str, tuple[list[Scores], Any]]:
    """The figures of the methods beside, and their settings."""
    public = chosen.public
    strength, mf = EASE_CHOSEN[public.name], MF_CHOSEN[public.name]
    peers: dict[str, tuple[list[Scores], Any]] = {
        "implicit ALS": ([factorised(chosen, mf, seed) for seed in SEEDS], _plain(mf)),
        "EASE": ([floor(chosen, Floor("EASE", lambda: EASE(strength)))], {"regularization": strength}),
        "popularity": ([floor(chosen, Floor("popularity", Popularity))], {}),
    }
    for name, (scores, _) in peers.items():
        say(f"{public.name} {name}: {np.mean(scores, axis=0).tolist()}")
    return peers


def _row(
    chosen: EmbeddingSet,
    method: str,
    place: tuple[int, int],
    ours: np.ndarray[Any, Any],
    peer: str,
    theirs: np.ndarray[Any, Any],
    about: Any,
) -> dict[str, Any]:
    public, (way, at) = chosen.public, place
    mine, others = ours[:, way, at], theirs[:, way, at]
    low, middle, high = (float(x) for x in np.percentile(mine / others.mean(), [20, 50, 80]))
    return {
        "bench": BENCH,
        "case": f"{public.name}, {method}",
        "peer": peer,
        "metric": public.metrics[at],
        "ours": float(mine.mean()),
        "theirs": float(others.mean()),
        "ratio": middle,
        "p20": low,
        "p80": high,
        "unit": "1",
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.{BENCH} {public.name}",
        "protocol": public.protocol,
        "seeds": list(SEEDS),
        "data_sha256": public.sha256(),
        "published": None,
        "source": "measured here",
        "details": {
            "ours_by_seed": mine.tolist(),
            "ours_sd": float(mine.std(ddof=1)),
            "theirs_by_seed": others.tolist(),
            "settings": asdict(CHOSEN[public.name]),
            "ranker_epochs": RANKER_EPOCHS[public.name],
            "blend_weights": asdict(WEIGHTS),
            "peer_settings": about,
        },
    }


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: value if value != np.inf else None for name, value in asdict(settings).items()}


def main() -> None:
    """Measure the named sets and keep the rows, or repeat the search of their settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", default=sorted(SETS), help=f"of {', '.join(sorted(SETS))}")
    parser.add_argument("--search", action="store_true", help="repeat the search on the validation cut")
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    arguments = parser.parse_args()
    console = Console()
    for name in arguments.sets:
        if name not in SETS:
            parser.error(f"no set '{name}'; there are: {', '.join(sorted(SETS))}")
    for chosen in (SETS[name] for name in arguments.sets):
        obstacle = chosen.public.obstacle()
        if obstacle:
            console.print(f"[yellow]skipped[/yellow] {obstacle}")
        elif arguments.search:
            choose(chosen, _say, console)
        else:
            _keep(arguments.out, rows_of(chosen, _say))


def _say(line: str) -> None:
    print(line, flush=True)


def _keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the rows of the same sets in the file."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    sets = {row["case"].split(",")[0] for row in rows}
    kept = [row for row in earlier if row["case"].split(",")[0] not in sets]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(kept + rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
