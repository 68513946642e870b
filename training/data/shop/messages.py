"""Who writes what and when: reviews of bought items, posts, and messages to support."""

from __future__ import annotations

import numpy as np
import polars as pl

from training.data.shop.catalogue import Catalogue
from training.data.shop.spec import DAY_SECONDS, NUM_DAYS, ShopSpec
from training.data.shop.texts import SENTIMENTS, Writer

_LABELLED = 0.4
_LABEL_NOISE = 0.015


def draw_reviews(lines: pl.DataFrame, writes: np.ndarray, catalogue: Catalogue, writer: Writer, chinese: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Return reviews of bought lines by people who write some: person, item, time, stars, sentiment, text, language."""
    person, item = lines["person"].to_numpy(), lines["item"].to_numpy()
    chosen = np.flatnonzero(writes[person] & (rng.random(person.size) < 0.35))
    person, item = person[chosen], item[chosen]
    time = lines["time"].to_numpy()[chosen] + (DAY_SECONDS * (2 + rng.gamma(2.0, 4.0, chosen.size))).astype(np.int64)
    mood = catalogue.quality[item] + rng.normal(0, 0.55, item.size)
    stars = np.digitize(mood, (-0.65, -0.3, 0.1, 0.5)) + 1
    # Stars and words mostly agree; three stars lean either way, and some people click the wrong star.
    sentiment = np.digitize(stars + rng.normal(0, 0.45, stars.size), (2.5, 3.5))
    slip = rng.random(stars.size) < 0.02
    stars = np.where(slip, 6 - stars, stars)
    language = _languages(person, chinese, rng)
    text = [writer.review(s, lang, i) for s, lang, i in zip(sentiment, language, item, strict=True)]
    frame = pl.DataFrame({"person": person, "item": item, "time": time, "stars": stars,
                          "sentiment": np.array(SENTIMENTS)[sentiment], "language": language, "text": text},
                         schema_overrides={"language": pl.String, "text": pl.String, "sentiment": pl.String})  # fmt: skip
    return frame.filter(pl.col("time") < NUM_DAYS * DAY_SECONDS).unique(["person", "item"], keep="first", maintain_order=True)


def draw_posts(posts: np.ndarray, writer: Writer, chinese: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Return posts on social media by the people of `posts` ([n] bool): person, time, sentiment, text, language."""
    person = np.repeat(np.flatnonzero(posts), rng.poisson(1.5, int(posts.sum())))
    sentiment = rng.choice(3, person.size, p=[0.3, 0.25, 0.45])
    language = _languages(person, chinese, rng)
    text = [writer.post(s, lang) for s, lang in zip(sentiment, language, strict=True)]
    return pl.DataFrame(
        {
            "person": person,
            "time": rng.integers(0, NUM_DAYS * DAY_SECONDS, person.size),
            "sentiment": np.array(SENTIMENTS)[sentiment],
            "language": language,
            "text": text,
        },
        schema_overrides={"language": pl.String, "text": pl.String, "sentiment": pl.String},
    )


def draw_support(contacts: np.ndarray, spec: ShopSpec, writer: Writer, chinese: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Return messages to support by the people of `contacts` ([n] bool).

    Columns: person, time, intent, sentiment, language, text (the truth), and label_intent, label_sentiment:
    what the agents noted on about 40 % of them, 1.5 % wrongly.
    """
    people = np.flatnonzero(contacts)
    rate = spec.messages_per_customer * contacts.size / max(1, people.size)
    person = np.repeat(people, rng.poisson(rate, people.size))
    intents = writer.intents
    intent = rng.choice(len(intents), person.size, p=writer.intent_shares)
    language = _languages(person, chinese, rng)
    written = [writer.support(intents[k], lang) for k, lang in zip(intent, language, strict=True)]
    sentiment = np.array([s for _, s in written], dtype=np.int64)
    noted = rng.random(person.size) < _LABELLED
    wrong = rng.random((2, person.size)) < _LABEL_NOISE
    noted_intent = np.where(wrong[0], rng.integers(0, len(intents), person.size), intent)
    noted_sentiment = np.where(wrong[1], rng.integers(0, 3, person.size), sentiment)
    names, moods = np.array(intents), np.array(SENTIMENTS)
    frame = pl.DataFrame(
        {
            "person": person,
            "time": rng.integers(0, NUM_DAYS * DAY_SECONDS, person.size),
            "intent": names[intent],
            "sentiment": moods[sentiment],
            "language": language,
            "text": [t for t, _ in written],
            "label_intent": names[noted_intent],
            "label_sentiment": moods[noted_sentiment],
        },
        schema_overrides={"language": pl.String, "text": pl.String},
    )
    labels = [pl.when(pl.Series(noted)).then(pl.col(c)).alias(c) for c in ("label_intent", "label_sentiment")]
    return frame.with_columns(labels)


def _languages(person: np.ndarray, chinese: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return en or zh a message: what its writer speaks, now and then the other."""
    return np.where(chinese[person] & (rng.random(person.size) < 0.92), "zh", "en")
