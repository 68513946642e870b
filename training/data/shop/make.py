"""Makes a shop: people chunk by chunk, their raw files, and the truth about them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from training.data.shop import answers, behaviour, experiment, raw
from training.data.shop.accounts import CHANNELS, draw_accounts
from training.data.shop.catalogue import Catalogue, draw_catalogue
from training.data.shop.dirt import spoil
from training.data.shop.files import TruthFiles, append_rows
from training.data.shop.messages import draw_posts, draw_reviews, draw_support
from training.data.shop.people import draw_people
from training.data.shop.personas import PERSONAS, Traits, draw_traits
from training.data.shop.preferences import Chooser, item_factors, person_factors
from training.data.shop.seasons import Calendar
from training.data.shop.sources import README, SOURCES
from training.data.shop.spec import DAY_SECONDS, NUM_DAYS, ShopSpec, ShopSummary, random_stream
from training.data.shop.texts import Writer

CHUNK = 20_000  # people whose year is held in memory at once
Progress = Callable[[int, int], None]  # people done, people in all
_NAMES = ("web", "app", "store")


def make_shop(spec: ShopSpec, raw_dir: Path, truth_dir: Path, progress: Progress | None = None) -> ShopSummary:
    """Write a shop's raw files and, apart from them, the planted truth; equal specs give equal bytes.

    Both folders appear whole or not at all: they are written beside their place and renamed. A folder that
    an earlier call made is replaced. `progress(people done, people in all)` is called after every chunk.
    Raises FileExistsError when a folder exists and holds anything else.
    """
    staged = [_stage(folder) for folder in (raw_dir, truth_dir)]
    try:
        summary = _Shop(spec, *staged).write(progress or (lambda done, total: None))
        for folder, temporary in zip((raw_dir, truth_dir), staged, strict=True):
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
    finally:
        for temporary in staged:
            shutil.rmtree(temporary, ignore_errors=True)
    return summary


_MARKS = ("sources.toml", "experiment.json")


def _stage(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()) and not any((folder / m).is_file() for m in _MARKS):
        raise FileExistsError(f"{folder} exists and holds no synthetic shop; name another folder or remove it")
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


@dataclass(frozen=True)
class _Chunk:
    """The people of one chunk and how to find their accounts."""

    index: int
    people: pl.DataFrame
    traits: Traits
    accounts: pl.DataFrame
    factors: np.ndarray
    arm: np.ndarray


class _Shop:
    def __init__(self, spec: ShopSpec, raw_dir: Path, truth_dir: Path) -> None:
        self._spec = spec
        self._raw_dir = raw_dir
        self._truth = TruthFiles(truth_dir)
        self._truth_dir = truth_dir
        self._rows: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._expectation = experiment.Expectation(spec)
        self._catalogue: Catalogue = draw_catalogue(spec)

    def write(self, progress: Progress) -> ShopSummary:
        catalogue, spec = self._catalogue, self._spec
        self._append("items.csv", catalogue.frame, 0)
        self._append("faq.jsonl", answers.faq(), 0)
        self._append("policies.jsonl", answers.policies(), 0)
        self._write_item_truth()
        for index, first in enumerate(range(0, spec.num_customers, CHUNK)):
            num = min(CHUNK, spec.num_customers - first)
            self._write_chunk(index, first, num)
            progress(first + num, spec.num_customers)
        self._truth.close()
        self._expectation.write(self._truth_dir / "experiment.json")
        (self._raw_dir / "sources.toml").write_text(SOURCES, encoding="utf-8")
        (self._raw_dir / "README.txt").write_text(README, encoding="utf-8")
        events = sum(self._rows[f] for f in ("web_events.csv", "app_events.jsonl", "web_orders.csv", "store_orders.csv"))
        size = sum(p.stat().st_size for p in self._raw_dir.iterdir())
        return ShopSummary(spec.num_customers, catalogue.num_items, events, dict(self._rows), dict(self._bad), size)

    def _append(self, file: str, frame: pl.DataFrame, index: int) -> None:
        rng = random_stream(self._spec, f"dirt {file}", index)
        frame, bad = spoil(frame, raw.WEAKNESSES[file], self._spec.bad_row_share, rng, f"x{index}")
        append_rows(self._raw_dir / file, frame)
        before = self._rows[file]
        self._truth.append("bad_rows", bad.select(pl.lit(file).alias("file"), pl.col("row") + before, "reason"))
        self._rows[file] += frame.height
        self._bad.update(bad["reason"].to_list())

    def _write_item_truth(self) -> None:
        c = self._catalogue
        self._truth.append("items", c.frame.select(
            pl.col("sku").alias("item_id"), pl.Series("quality", c.quality), pl.Series("from_day", c.from_day),
            pl.Series("to_day", c.to_day), _factor_column(item_factors(c))))  # fmt: skip

    def _write_chunk(self, index: int, first: int, num: int) -> None:
        chunk = self._draw_chunk(index, first, num)
        self._write_people(chunk)
        lines = self._write_behaviour(chunk)
        self._write_messages(chunk, lines)

    def _draw_chunk(self, index: int, first: int, num: int) -> _Chunk:
        spec = self._spec
        people = draw_people(num, first, random_stream(spec, "people", index))
        traits = draw_traits(num, NUM_DAYS, random_stream(spec, "traits", index))
        rng = random_stream(spec, "accounts", index)
        members = {name: traits.has_channel[:, k] for k, name in enumerate(_NAMES)}
        members |= {name: rng.random(num) < share for name, share in (("reviews", 0.2), ("social", 0.15), ("support", 0.4))}
        accounts = draw_accounts(people, members, rng)
        registered = raw.registered_seconds(traits.joined_day)[accounts["row"].to_numpy()]
        accounts = accounts.with_columns(registered=pl.Series(registered))
        factors = person_factors(traits, self._catalogue, random_stream(spec, "preferences", index))
        arm = experiment.assign_arms(people["number"].to_numpy(), spec.seed)
        return _Chunk(index, people, traits, accounts, factors, arm)

    def _write_people(self, chunk: _Chunk) -> None:
        for name, (file, shape) in raw.ACCOUNT_FILES.items():
            self._append(file, shape(chunk.accounts.filter(source=name)), chunk.index)
        person = _person_id(chunk.people["number"].to_numpy())
        self._truth.append("identities", chunk.accounts.select("source", "source_id", person_id=person[chunk.accounts["row"].to_numpy()]))
        personas = pl.Series("persona", [PERSONAS[k].name for k in chunk.traits.persona])
        people = chunk.people.select(person_id=person, persona=personas, household="household", trap="trap", language="language")
        people = people.with_columns(arm=pl.Series(np.array(experiment.ARMS)[chunk.arm]), factor=_factor_column(chunk.factors))
        self._truth.append("people", people)

    def _source_ids(self, chunk: _Chunk, name: str, person: np.ndarray, visit: np.ndarray, share: float = 0.35) -> pl.Series:
        """Return the account that each row used; who has two uses the second one in a share of the visits."""
        own = chunk.accounts.filter(source=name)
        tables = [np.full(chunk.people.height, -1, dtype=np.int64) for _ in range(2)]
        for table, part in zip(tables, (False, True), strict=True):
            at = np.flatnonzero(own["second"].to_numpy() == part)
            table[own["row"].to_numpy()[at]] = at
        draw = np.random.default_rng([self._spec.seed, chunk.index, 7]).random(int(visit.max(initial=0)) + 1)[visit]
        at = np.where((tables[1][person] >= 0) & (draw < share), tables[1][person], tables[0][person])
        return own["source_id"].gather(pl.Series(np.maximum(at, 0))).set(pl.Series(at < 0), None) if own.height else pl.Series("source_id", [None] * at.size, dtype=pl.String)

    def _write_behaviour(self, chunk: _Chunk) -> pl.DataFrame:
        spec, traits, catalogue = self._spec, chunk.traits, self._catalogue
        rng = random_stream(spec, "behaviour", chunk.index)
        year = behaviour.draw_year(traits, chunk.arm, catalogue, Chooser(chunk.factors, catalogue), spec, rng)
        self._expectation.add(year.sessions, year.views, chunk.arm)
        base = chunk.index * 10_000_000
        lines = pl.concat([year.lines, behaviour.draw_returns(year.lines, traits, rng)])
        self._write_orders(chunk, lines, base)
        self._write_events(chunk, year.sessions, year.views, lines, base)
        shown = experiment.draw_exposures(year.sessions, chunk.arm, catalogue.popularity, rng)
        ids = self._source_ids(chunk, "web", shown["person"].to_numpy(), shown["session"].to_numpy())
        shown = shown.with_columns(source_id=ids, request=pl.col("session") + base)
        self._append("exposures.csv", raw.exposures(shown.sort("time", maintain_order=True), experiment.NAME, experiment.ARMS), chunk.index)
        self._write_future(chunk, year.future)
        return year.lines

    def _write_orders(self, chunk: _Chunk, lines: pl.DataFrame, base: int) -> None:
        for channel, file, shape in ((behaviour.WEB, "web_orders.csv", raw.web_orders), (behaviour.STORE, "store_orders.csv", raw.store_orders)):
            own = lines.filter(channel=channel).sort("time", maintain_order=True)
            ids = self._source_ids(chunk, _NAMES[channel], own["person"].to_numpy(), own["order"].to_numpy())
            self._append(file, shape(own.with_columns(source_id=ids, order=pl.col("order") + base)), chunk.index)

    def _write_events(self, chunk: _Chunk, sessions: behaviour.Sessions, views: behaviour.Views, lines: pl.DataFrame, base: int) -> None:
        price = self._catalogue.price
        seen = pl.DataFrame({"session": views.session, "item": views.item, "time": views.time, "price": price[views.item]})
        cart = seen.filter(pl.Series(views.carted)).with_columns(event=pl.lit("cart"), quantity=1, time=pl.col("time") + 1)
        rng = random_stream(self._spec, "searches", chunk.index)
        searching = np.flatnonzero(rng.random(sessions.start.size) < 0.15)
        search = pl.DataFrame({"session": searching, "time": sessions.start[searching] - 5}).with_columns(event=pl.lit("search"))
        browsing = pl.concat([seen.with_columns(event=pl.lit("view")), cart, search], how="diagonal_relaxed")
        at = browsing["session"].to_numpy()
        browsing = browsing.with_columns(person=pl.Series(sessions.person[at]), channel=pl.Series(sessions.channel[at]), anonymous=pl.Series(sessions.anonymous[at]))
        paid = lines.filter(channel=behaviour.APP).with_columns(
            event=pl.when(pl.col("sign") > 0).then(pl.lit("purchase")).otherwise(pl.lit("return")), session=pl.col("order"),
            anonymous=pl.lit(False), order=pl.col("order") + base)
        stars = np.clip(np.round(3.6 + 1.4 * self._catalogue.quality[paid["item"].to_numpy()] + rng.normal(0, 0.8, paid.height)), 1, 5)
        rated = paid.with_columns(event=pl.lit("rating"), stars=pl.Series(stars), time=pl.col("time") + 5 * DAY_SECONDS)
        rated = rated.filter(pl.Series(rng.random(paid.height) < 0.12) & (pl.col("sign") > 0) & (pl.col("time") < NUM_DAYS * DAY_SECONDS))
        rated = rated.select("person", "channel", "session", "item", "time", "event", "stars", "anonymous")
        everything = pl.concat([browsing, paid, rated], how="diagonal_relaxed").sort("time", maintain_order=True)
        for channel, file, shape in ((behaviour.WEB, "web_events.csv", raw.web_events), (behaviour.APP, "app_events.jsonl", raw.app_events)):
            own = everything.filter(channel=channel)
            ids = self._source_ids(chunk, _NAMES[channel], own["person"].to_numpy(), own["session"].to_numpy())
            own = own.with_columns(source_id=ids.set(own["anonymous"], None), session=pl.col("session") + base)
            self._append(file, shape(own), chunk.index)

    def _write_messages(self, chunk: _Chunk, lines: pl.DataFrame) -> None:
        rng = random_stream(self._spec, "messages", chunk.index)
        num = chunk.people.height
        writer = Writer(self._catalogue.frame["title"].to_list(), rng)
        chinese = (chunk.people["language"] == "zh").to_numpy()
        member = {
            n: np.bincount(chunk.accounts.filter(source=n)["row"].to_numpy(), minlength=num) > 0
            for n in ("reviews", "social", "support")
        }
        reviews = draw_reviews(lines, member["reviews"], self._catalogue, writer, chinese, rng)
        posts = draw_posts(member["social"], writer, chinese, rng)
        support = draw_support(member["support"], self._spec, writer, chinese, rng)
        for name, file, frame, shape in (("reviews", "reviews.jsonl", reviews, raw.reviews), ("social", "social_posts.csv", posts, raw.posts), ("support", "support_messages.jsonl", support, raw.support)):
            frame = frame.sort("time", maintain_order=True).with_columns(number=pl.int_range(pl.len()) + chunk.index * 10_000_000)
            ids = self._source_ids(chunk, name, frame["person"].to_numpy(), frame["number"].to_numpy() % 10_000_000)
            shaped = shape(frame.with_columns(source_id=ids))
            self._append(file, shaped, chunk.index)
            intent = pl.col("intent") if "intent" in frame.columns else pl.lit(None, dtype=pl.String).alias("intent")
            self._truth.append("messages", frame.select(shaped[shaped.columns[0]].alias("message_id"), intent, "sentiment", "language"))

    def _write_future(self, chunk: _Chunk, future: pl.DataFrame) -> None:
        person_id = _person_id(chunk.people["number"].to_numpy())
        for channel, name in enumerate(_NAMES):
            own = future.filter(channel=channel).sort("time", maintain_order=True)
            person = own["person"].to_numpy()
            ids = self._source_ids(chunk, name, person, np.arange(person.size))
            self._truth.append("future_purchases", own.select(pl.lit(name).alias("source"), ids.alias("source_id"), pl.Series("person_id", person_id[person], dtype=pl.String), raw.item_id().alias("item_id"), raw.stamp().alias("timestamp")))


def _person_id(numbers: np.ndarray) -> np.ndarray:
    return np.array([f"P{n:08d}" for n in numbers], dtype=object)


def _factor_column(factors: np.ndarray) -> pl.Series:
    return pl.Series("factor", factors, dtype=pl.Array(pl.Float32, factors.shape[1]))
