"""Makes a shop: people chunk by chunk, their raw files, and the truth about them."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from shopsight.serving.progress import Progress, counted, silent
from shopsight.training.data.shop import answers, experiment, planted, raw
from shopsight.training.data.shop.behaviour import STORE, WEB, Year, draw_returns, draw_year
from shopsight.training.data.shop.catalogue import Catalogue, draw_catalogue
from shopsight.training.data.shop.chunk import CHUNK, SELLING, Chunk, draw_chunk
from shopsight.training.data.shop.dirt import spoil
from shopsight.training.data.shop.files import TruthFiles, append_rows
from shopsight.training.data.shop.messages import draw_messages
from shopsight.training.data.shop.personas import PERSONAS
from shopsight.training.data.shop.pictures import write_pictures
from shopsight.training.data.shop.preferences import Chooser, item_factors
from shopsight.training.data.shop.raw_accounts import ACCOUNT_FILES
from shopsight.training.data.shop.spec import ShopSpec, ShopSummary, random_stream
from shopsight.training.data.shop.streams import online_events

_README = """The raw files of a synthetic shop, twelve months up to 2026-06-30: what each of its channels
exported, with ids, words and mistakes of its own. sources.toml says how to read them. A few rows of every
file are bad on purpose. Nobody in here exists.
"""
_MARKS = ("sources.toml", "experiment.json")  # what a folder of ours holds


def make_shop(spec: ShopSpec, raw_dir: Path, truth_dir: Path, progress: Progress = silent) -> ShopSummary:
    """Write a shop's raw files and, apart from them, the planted truth; equal specs give equal bytes.

    Both folders are written under temporary names and then renamed. A folder of an earlier call is replaced.
    Raises FileExistsError if a folder exists with other content.
    """
    staged = [_stage(folder) for folder in (raw_dir, truth_dir)]
    try:
        summary = _Shop(spec, *staged).write(progress)
        for folder, temporary in zip((raw_dir, truth_dir), staged, strict=True):
            replaced = temporary.with_name(f"{temporary.name}.old")
            if folder.exists():
                folder.replace(replaced)
            temporary.replace(folder)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        for temporary in staged:
            shutil.rmtree(temporary, ignore_errors=True)
    return summary


def _stage(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()) and not any((folder / m).is_file() for m in _MARKS):
        raise FileExistsError(
            f"{folder} exists and holds no synthetic shop; name another folder or remove it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    temporary.chmod(stat.S_IMODE(folder.parent.stat().st_mode))
    return temporary


class _Shop:
    """One shop on its way to disk: counts of what is written, and the files that are still open."""

    def __init__(self, spec: ShopSpec, raw_dir: Path, truth_dir: Path) -> None:
        self._spec = spec
        self._raw_dir, self._truth_dir = raw_dir, truth_dir
        self._truth = TruthFiles(truth_dir)
        self._rows: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._expectation = experiment.Expectation(spec)
        self._catalogue: Catalogue = draw_catalogue(spec)

    def write(self, progress: Progress) -> ShopSummary:
        spec = self._spec
        self._write_shop_wide()
        num_chunks = -(-spec.num_customers // CHUNK)
        with counted(progress, "making people", num_chunks) as done:
            for index in range(num_chunks):
                self._write_chunk(draw_chunk(index, self._catalogue, spec))
                progress(f"{min((index + 1) * CHUNK, spec.num_customers):,} people")
                done(1)
        self._truth.close()
        self._expectation.write(self._truth_dir / "experiment.json")
        if spec.behaviour:
            planted.write_truth(self._truth_dir / "behaviour.json", self._catalogue)
        sources = Path(__file__).with_name("sources.toml").read_text(encoding="utf-8")
        if spec.pictures:
            sources = sources.replace('title = "title"\n', 'title = "title"\nimage_path = "picture"\n', 1)
        (self._raw_dir / "sources.toml").write_text(sources, encoding="utf-8")
        (self._raw_dir / "README.txt").write_text(_README, encoding="utf-8")
        return ShopSummary(
            num_customers=spec.num_customers,
            num_items=self._catalogue.num_items,
            num_events=sum(self._rows[file] for file in raw.EVENT_FILES),
            rows=dict(self._rows),
            bad_rows=dict(self._bad),
            raw_bytes=sum(p.stat().st_size for p in self._raw_dir.iterdir()),
        )

    def _append(self, file: str, frame: pl.DataFrame, index: int = 0) -> None:
        rng = random_stream(self._spec, f"dirt {file}", index)
        frame, bad = spoil(frame, raw.WEAKNESSES[file], self._spec.bad_row_share, rng, f"x{index}")
        append_rows(self._raw_dir / file, frame)
        place = bad.select(pl.lit(file).alias("file"), pl.col("row") + self._rows[file], "reason")
        self._truth.append("bad_rows", place)
        self._rows[file] += frame.height
        self._bad.update(bad["reason"].to_list())

    def _write_shop_wide(self) -> None:
        catalogue, frame = self._catalogue, self._catalogue.frame
        if self._spec.pictures:
            paths = write_pictures(catalogue, self._raw_dir, random_stream(self._spec, "pictures"))
            frame = frame.with_columns(picture=pl.Series(paths))
        self._append("items.csv", frame)
        self._append("faq.jsonl", answers.faq())
        self._append("policies.jsonl", answers.policies())
        days = {"quality": catalogue.quality, "from_day": catalogue.from_day, "to_day": catalogue.to_day}
        items = catalogue.frame.select(
            pl.col("sku").alias("item_id"), **{k: pl.Series(v) for k, v in days.items()}
        )
        self._truth.append("items", items.with_columns(_factor_column(item_factors(catalogue))))

    def _write_chunk(self, chunk: Chunk) -> None:
        rng = random_stream(self._spec, "behaviour", chunk.index)
        chooser = Chooser(chunk.factors, self._catalogue)
        year = draw_year(chunk.traits, chunk.arm, self._catalogue, chooser, self._spec, rng)
        self._expectation.add(year.sessions, year.views, chunk.arm)
        self._write_people(chunk)
        self._write_behaviour(chunk, year, rng)
        self._write_exposures(chunk, year, rng)
        self._write_messages(chunk, year)
        self._write_future(chunk, year.future)

    def _write_people(self, chunk: Chunk) -> None:
        for source, (file, shape) in ACCOUNT_FILES.items():
            self._append(file, shape(chunk.accounts.filter(source=source)), chunk.index)
        owner = chunk.person_id[chunk.accounts["row"].to_numpy()]
        self._truth.append(
            "identities", chunk.accounts.select("source", "source_id", person_id=pl.Series(owner))
        )
        people = chunk.people.select(
            pl.Series("person_id", chunk.person_id),
            pl.Series("persona", [PERSONAS[k].name for k in chunk.traits.persona]),
            "household",
            "trap",
            "language",
            pl.Series("arm", np.array(experiment.ARMS)[chunk.arm]),
            _factor_column(chunk.factors),
        )
        self._truth.append("people", people)

    def _write_behaviour(self, chunk: Chunk, year: Year, rng: np.random.Generator) -> None:
        orders = pl.concat([year.lines, draw_returns(year.lines, chunk.traits, rng)])
        events = online_events(year, orders, self._catalogue, rng)
        for channel, (file, shape) in raw.ONLINE_FILES.items():
            own = events.filter(channel=channel)
            ids = chunk.source_ids(SELLING[channel], own["person"].to_numpy(), own["session"].to_numpy())
            own = own.with_columns(source_id=ids.set(own["anonymous"], None))
            self._append(file, shape(_numbered(own, chunk, "session", "order")), chunk.index)
        for channel, file, shape in (
            (WEB, "web_orders.csv", raw.web_orders),
            (STORE, "store_orders.csv", raw.store_orders),
        ):
            own = orders.filter(channel=channel).sort("time", maintain_order=True)
            ids = chunk.source_ids(SELLING[channel], own["person"].to_numpy(), own["order"].to_numpy())
            self._append(file, shape(_numbered(own.with_columns(source_id=ids), chunk, "order")), chunk.index)

    def _write_exposures(self, chunk: Chunk, year: Year, rng: np.random.Generator) -> None:
        shown = experiment.draw_exposures(year.sessions, chunk.arm, self._catalogue.popularity, rng)
        shown = shown.sort("time", maintain_order=True)
        ids = chunk.source_ids("web", shown["person"].to_numpy(), shown["session"].to_numpy())
        frame = _numbered(shown.with_columns(source_id=ids), chunk, "session")
        self._append("exposures.csv", raw.exposures(frame, experiment.NAME, experiment.ARMS), chunk.index)

    def _write_messages(self, chunk: Chunk, year: Year) -> None:
        rng = random_stream(self._spec, "messages", chunk.index)
        for source, frame in draw_messages(chunk, year.lines, self._catalogue, self._spec, rng).items():
            file, shape = raw.MESSAGE_FILES[source]
            frame = frame.sort("time", maintain_order=True).with_row_index("number")
            ids = chunk.source_ids(source, frame["person"].to_numpy(), frame["number"].to_numpy())
            numbered = _numbered(
                frame.with_columns(pl.col("number").cast(pl.Int64), source_id=ids), chunk, "number"
            )
            shaped = shape(numbered)
            self._append(file, shaped, chunk.index)
            message_id = shaped[shaped.columns[0]].alias("message_id")
            self._truth.append("messages", frame.select(message_id, "intent", "sentiment", "language"))

    def _write_future(self, chunk: Chunk, future: pl.DataFrame) -> None:
        for channel, source in enumerate(SELLING):
            own = future.filter(channel=channel).sort("time", maintain_order=True)
            person = own["person"].to_numpy()
            bought = own.select(
                pl.lit(source).alias("source"),
                chunk.source_ids(source, person, np.arange(person.size)).alias("source_id"),
                pl.Series("person_id", chunk.person_id[person], dtype=pl.String),
                raw.item_id().alias("item_id"),
                raw.stamp().dt.replace_time_zone("UTC").alias("timestamp"),
            )
            self._truth.append("future_purchases", bought)


def _numbered(frame: pl.DataFrame, chunk: Chunk, *columns: str) -> pl.DataFrame:
    return frame.with_columns(pl.col(c) + chunk.base for c in columns)


def _factor_column(factors: np.ndarray) -> pl.Series:
    return pl.Series("factor", factors, dtype=pl.Array(pl.Float32, factors.shape[1]))
