"""Which messages are learned from, which are held out, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopsight.training.language.corpus import (
    NO_LABEL,
    OUT_OF_SCOPE,
    SPLITS,
    UNSPLIT,
    LanguageError,
    read_corpus,
)
from tests.training.language_shop import SMALL, messages, small_shop, write_shop


def test_equal_texts_never_lie_in_two_splits(tmp_path: Path) -> None:
    rows = messages(300)
    texts = [(m, t) for m, t, _, _ in rows]
    texts += [(f"again-{m}", f"  {t.upper()}\u200b ") for m, t, _, _ in rows]
    labels = [(m, "intent", i, None) for m, _, i, _ in rows]
    labels += [(f"again-{m}", "intent", i, None) for m, _, i, _ in rows]
    corpus = read_corpus(write_shop(tmp_path, texts, labels), SMALL)
    where: dict[str, set[int]] = {}
    for text, split in zip(corpus.texts, corpus.split, strict=True):
        where.setdefault(text.strip(" \u200b").lower(), set()).add(int(split))
    assert all(len(splits) == 1 for splits in where.values())
    assert {s for splits in where.values() for s in splits} == {0, 1, 2}


def test_every_class_is_split_in_the_asked_shares(tmp_path: Path) -> None:
    corpus = read_corpus(small_shop(tmp_path), replace(SMALL, validation_share=0.2, test_share=0.25))
    for index in range(3):
        split = corpus.split[corpus.label["intent"] == index]
        shares = np.bincount(split, minlength=3) / len(split)
        np.testing.assert_allclose(shares, [0.55, 0.2, 0.25], atol=0.02)


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = messages(200)
    labels = [(m, "intent", i, None) for m, _, i, _ in rows]
    texts = [(m, t) for m, t, _, _ in rows]
    one = read_corpus(write_shop(tmp_path / "a", texts, labels), SMALL)
    two = read_corpus(write_shop(tmp_path / "b", texts[::-1], labels[::-1]), SMALL)
    other = read_corpus(write_shop(tmp_path / "c", texts, labels), replace(SMALL, seed=1))
    assert dict(zip(one.texts, one.split, strict=True)) == dict(zip(two.texts, two.split, strict=True))
    assert (one.split != other.split).any()


def test_given_splits_are_kept_and_a_training_text_that_is_tested_is_left_out(tmp_path: Path) -> None:
    texts = [("a", "one"), ("b", "two"), ("c", "ONE"), ("d", "three"), ("e", "four")]
    labels = [("a", "intent", "x", "train"), ("b", "intent", "y", "train"), ("c", "intent", "x", "test")]
    labels += [("d", "intent", "x", "validation"), ("e", "intent", "x", None)]
    corpus = read_corpus(write_shop(tmp_path, texts, labels), replace(SMALL, validation_share=0.5))
    said = dict(zip(corpus.texts, corpus.split, strict=True))
    assert said == {"one": UNSPLIT, "two": 0, "ONE": 2, "three": 1, "four": 0}
    assert any("1 labelled texts left out" in note for note in corpus.notes)


def test_validation_is_taken_from_training_where_only_a_test_split_is_given(tmp_path: Path) -> None:
    rows = messages(200)
    labels = [(m, "intent", i, "test" if n % 4 == 0 else "train") for n, (m, _, i, _) in enumerate(rows)]
    corpus = read_corpus(write_shop(tmp_path, [(m, t) for m, t, _, _ in rows], labels), SMALL)
    assert len(corpus.rows("test")) == 50
    assert len(corpus.rows("validation")) == pytest.approx(15, abs=2)


def test_ratings_are_sentiments_unless_a_label_says_otherwise(tmp_path: Path) -> None:
    texts = [(f"r{i}", f"text {i}", r) for i, r in enumerate((1.0, 2.0, 3.0, 3.5, 4.0, 5.0, None, 5.0))]
    corpus = read_corpus(write_shop(tmp_path, texts, [("r7", "sentiment", "negative", None)]), SMALL)
    names = [corpus.classes["sentiment"][i] if i >= 0 else None for i in corpus.label["sentiment"]]
    assert names == ["negative"] * 2 + ["neutral"] * 2 + ["positive"] * 2 + [None, "negative"]
    assert corpus.classes["intent"] == ()


def test_out_of_scope_messages_are_no_class_and_kept_aside(tmp_path: Path) -> None:
    texts = [(f"m{i}", f"text {i}") for i in range(6)]
    labels = [("m0", "intent", "a", "train"), ("m1", "intent", "b", "train"), ("m2", "intent", "a", "test")]
    labels += [("m3", "intent", "out_of_scope", "train"), ("m4", "intent", "oos", "test")]
    corpus = read_corpus(write_shop(tmp_path, texts, labels), SMALL)
    assert corpus.classes["intent"] == ("a", "b")
    assert corpus.label["intent"].tolist() == [0, 1, 0, OUT_OF_SCOPE, OUT_OF_SCOPE, NO_LABEL]
    assert corpus.out_of_scope("test").tolist() == [4]
    assert 3 not in corpus.rows("train", "intent")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    texts = [(f"m{i}", f"text {i}") for i in range(8)] + [("blank", " \u200b\n"), ("none", None)]
    labels = [(f"m{i}", "intent", "ab"[i % 2], "train") for i in range(6)]
    labels += [("m5", "intent", "oos", "train"), ("m6", "intent", "lone", "train")]
    labels += [("m7", "intent", "unheard", "test")]
    notes = "\n".join(read_corpus(write_shop(tmp_path, texts, labels), SMALL).notes)
    assert "2 messages without text" in notes
    assert "1 messages left out of intent: their labels contradict each other" in notes
    assert "single example, too few to learn: lone" in notes
    assert "intents without a training example left out: unheard" in notes


def test_messages_without_labels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="at least two classes; ingest a source of kind 'labels'"):
        read_corpus(write_shop(tmp_path, [("m", "text")], []), SMALL)
    one = [("m", "intent", "only", "train")]
    with pytest.raises(LanguageError, match="at least two classes"):
        read_corpus(write_shop(tmp_path, [("m", "text")], one), SMALL)


def test_a_split_of_another_name_is_refused(tmp_path: Path) -> None:
    labels = [("m", "intent", "a", "dev")]
    with pytest.raises(LanguageError, match=rf"message m: split 'dev' is none of {', '.join(SPLITS)}"):
        read_corpus(write_shop(tmp_path, [("m", "text")], labels), SMALL)
