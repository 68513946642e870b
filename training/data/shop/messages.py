"""Simulated messages: reviews of bought items, posts, and messages to support."""

from __future__ import annotations

import numpy as np
import polars as pl

from shopsight.training.data.shop.catalogue import Catalogue
from shopsight.training.data.shop.chunk import Chunk
from shopsight.training.data.shop.spec import DAY_SECONDS, NUM_DAYS, ShopSpec
from shopsight.training.data.shop.texts import SENTIMENTS, Writer

_REVIEWED = 0.35  # of the lines that a writer of reviews bought
_POSTS = 1.5  # a year
_LABELLED = 0.4  # of support messages: what the agents found time for
_LABEL_NOISE = 0.015
# Of those who stop buying so many write in anger, once and so many times more, so shortly before.
_ANNOYED, _AGAIN, _ANNOYED_DAYS = 0.8, 1.5, 30
_END = NUM_DAYS * DAY_SECONDS


def draw_messages(
    chunk: Chunk, lines: pl.DataFrame, catalogue: Catalogue, spec: ShopSpec, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Return the texts of a year by source: reviews, social, support.

    Columns: person, time, text, language, sentiment and intent (the truth; null but for support); reviews
    also item and stars; support also label_intent and label_sentiment, what the agents noted on 40 % of the
    messages, 1.5 % of it wrong.
    """
    writer = Writer(catalogue.frame["title"].to_list(), rng)
    chinese = (chunk.people["language"] == "zh").to_numpy()
    return {
        "reviews": _reviews(lines, chunk.writes_in("reviews"), catalogue, writer, chinese, rng),
        "social": _posts(chunk.writes_in("social"), writer, chinese, rng),
        "support": _support(chunk, spec, writer, chinese, rng),
    }


def _reviews(
    lines: pl.DataFrame,
    writes: np.ndarray,
    catalogue: Catalogue,
    writer: Writer,
    chinese: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    bought = lines.filter(
        pl.Series(writes[lines["person"].to_numpy()] & (rng.random(lines.height) < _REVIEWED))
    )
    delay = (DAY_SECONDS * (2 + rng.gamma(2.0, 4.0, bought.height))).astype(np.int64)
    bought = bought.select("person", "item", time=pl.col("time") + pl.Series(delay)).filter(
        pl.col("time") < _END
    )
    bought = bought.unique(["person", "item"], keep="first", maintain_order=True)
    person, item = bought["person"].to_numpy(), bought["item"].to_numpy()
    mood = catalogue.quality[item] + rng.normal(0, 0.55, item.size)
    stars = np.digitize(mood, (-0.65, -0.3, 0.1, 0.5)) + 1
    # Stars and words mostly agree; three stars lean either way, and some people click the wrong star.
    sentiment = np.digitize(stars + rng.normal(0, 0.45, stars.size), (2.5, 3.5))
    stars = np.where(rng.random(stars.size) < 0.02, 6 - stars, stars)
    language = _languages(person, chinese, rng)
    text = [writer.review(s, lang, i) for s, lang, i in zip(sentiment, language, item, strict=True)]
    return _frame(person, bought["time"].to_numpy(), text, language, sentiment, item=item, stars=stars)


def _posts(writes: np.ndarray, writer: Writer, chinese: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    person = np.repeat(np.flatnonzero(writes), rng.poisson(_POSTS, int(writes.sum())))
    sentiment = rng.choice(3, person.size, p=[0.3, 0.25, 0.45])
    language = _languages(person, chinese, rng)
    text = [writer.post(s, lang) for s, lang in zip(sentiment, language, strict=True)]
    return _frame(person, rng.integers(0, _END, person.size), text, language, sentiment)


def _support(
    chunk: Chunk, spec: ShopSpec, writer: Writer, chinese: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    writes = chunk.writes_in("support")
    people = np.flatnonzero(writes)
    rate = spec.messages_per_customer * writes.size / max(1, people.size)
    person = np.repeat(people, rng.poisson(rate, people.size))
    time, annoyed = rng.integers(0, _END, person.size), np.zeros(person.size, dtype=np.bool_)
    parting, last = _partings(people, chunk.traits.left_day[people] * DAY_SECONDS, rng)
    person, time = np.append(person, parting), np.append(time, last)
    annoyed = np.append(annoyed, np.ones(parting.size, dtype=np.bool_))
    intents, moods = np.array(writer.intents), np.array(SENTIMENTS)
    intent = rng.choice(intents.size, person.size, p=writer.intent_shares)
    language = _languages(person, chinese, rng)
    asked = zip(intent, language, annoyed, strict=True)
    written = [writer.support(writer.intents[k], lang, bool(angry)) for k, lang, angry in asked]
    sentiment = np.array([s for _, s in written], dtype=np.int64)
    noted, *wrong = rng.random((3, person.size))
    noted_intent = np.where(wrong[0] < _LABEL_NOISE, rng.integers(0, intents.size, person.size), intent)
    noted_mood = np.where(wrong[1] < _LABEL_NOISE, rng.integers(0, 3, person.size), sentiment)
    labels = {"label_intent": intents[noted_intent], "label_sentiment": moods[noted_mood]}
    frame = _frame(person, time, [t for t, _ in written], language, sentiment)
    frame = frame.with_columns(
        intent=pl.Series(intents[intent]), **{k: pl.Series(v) for k, v in labels.items()}
    )
    return frame.with_columns(pl.when(pl.Series(noted < _LABELLED)).then(pl.col(k)).alias(k) for k in labels)


def _partings(
    people: np.ndarray, left: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Who of `people`, leaving at `left` seconds, writes in anger before that, and when, once or often."""
    annoyed = np.flatnonzero((rng.random(people.size) < _ANNOYED) & (left < _END))
    each = np.repeat(annoyed, 1 + rng.poisson(_AGAIN, annoyed.size))
    time = (left[each] - rng.random(each.size) * _ANNOYED_DAYS * DAY_SECONDS).astype(np.int64)
    return people[each[time >= 0]], time[time >= 0]


def _frame(
    person: np.ndarray,
    time: np.ndarray,
    text: list[str],
    language: np.ndarray,
    sentiment: np.ndarray,
    **more: np.ndarray,
) -> pl.DataFrame:
    columns = {"person": person, "time": time, "text": text, "language": language, **more}
    frame = pl.DataFrame(columns, schema_overrides={"text": pl.String, "language": pl.String})
    return frame.with_columns(
        sentiment=pl.Series(np.array(SENTIMENTS)[sentiment], dtype=pl.String),
        intent=pl.lit(None, dtype=pl.String),
    )


def _languages(person: np.ndarray, chinese: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return en or zh a message: what its writer speaks, now and then the other."""
    return np.where(chinese[person] & (rng.random(person.size) < 0.92), "zh", "en")
