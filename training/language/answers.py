"""Index of the shop's answers, and the score that a match needs before a customer receives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.serving.routing.answers import AnswerIndex, Entry, Message, Weights, is_chinese, terms, total
from shopsight.serving.routing.texts import read_texts
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table
from shopsight.training.language.abstention import Costs, expected_cost, least_cost_threshold
from shopsight.training.language.checkpoint import LanguageModel, corpus_of
from shopsight.training.language.corpus import Corpus

Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]

_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b of BM25, at their usual values
UNLABELLED = Weights(0.75, 0.25, 0.0)
_TRIED = tuple(
    Weights(words / 10, meaning / 10, (10 - words - meaning) / 10)
    for words in (2, 4, 6) for meaning in (2, 4, 6) if words + meaning <= 8
)  # fmt: skip
_UNLABELLED_SHARE = 0.9
_MOST_JUDGED = 2_000


@dataclass(frozen=True)
class AnswerRule:
    """Weights and threshold: the best answer is given if its score reaches the threshold.

    chosen_on: the data on which the threshold was chosen, as text for the report.
    """

    weights: Weights
    threshold: float
    chosen_on: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class Answering:
    """The index of the shop's answers with the rule that decides whether one is given."""

    index: AnswerIndex
    rule: AnswerRule

    def best(self, message: Message) -> Entry | None:
        """Return the answer to a message, None if its score is too low and a person should answer."""
        return self.index.best(message, self.rule.weights, self.rule.threshold)

    def margin(self, message: Message) -> float:
        """Return the distance of the best score from the threshold, or from the second-best score if smaller.

        The second-best score counts only if the best one reaches the threshold.
        """
        score = total(self.index.parts(message), self.rule.weights)
        best = int(score.argmax())
        if score[best] < self.rule.threshold:
            return self.rule.threshold - float(score[best])
        own = self.index.entries[best].answer
        others = [s for s, e in zip(score, self.index.entries, strict=True) if e.answer != own]
        return float(score[best] - max([self.rule.threshold, *others]))


def answering(workspace: Workspace, model: LanguageModel) -> Answering | None:
    """Return the index and rule for the workspace's trained model, None without answers or intents."""
    entries = read_entries(workspace)
    if not entries or not model.classes.get("intent"):
        return None
    index = build(model, entries)
    return Answering(index, choose(index, model, corpus_of(workspace, model)))


def read_entries(workspace: Workspace) -> list[Entry]:
    """Read the answers table without empty entries; if it has several languages, ids end in the language."""
    rows = scan_table(workspace.tables, "answers").filter(pl.col("answer").str.strip_chars() != "").collect()
    several = rows.select(pl.len().over("answer_id") > 1).to_series().to_list()
    return [
        Entry(f"{r['answer_id']}:{r['language']}" if many else r["answer_id"], r["question"] or "",
              r["answer"], r["intent"] or "")
        for r, many in zip(rows.iter_rows(named=True), several, strict=True)
    ]  # fmt: skip


def build(model: LanguageModel, entries: Sequence[Entry]) -> AnswerIndex:
    """Build the index: words of question and answer, and the embedding of the question (or policy text)."""
    intents = {name: i for i, name in enumerate(model.classes["intent"])}
    tokens = read_texts(model.tokenizer, [f"{e.question} {e.answer}" for e in entries], 512).tokens
    arrays = _bm25(tokens) | {
        "embedding": model.embed([e.question or e.answer for e in entries]),
        "intent": np.array([intents.get(e.intent, -1) for e in entries], dtype=np.int32),
        "is_chinese": np.array([is_chinese(e.question + e.answer) for e in entries], dtype=np.bool_),
    }
    return AnswerIndex(entries, arrays)


def messages_of(model: LanguageModel, texts: Sequence[str]) -> list[Message]:
    """Return each text with what the served model computes for it."""
    tokens = read_texts(model.tokenizer, texts, model.config.max_tokens).tokens
    predicted, embedding = model.predict(texts), model.embed(texts)
    in_scope = model.in_scope(predicted).tolist()
    probability = predicted.probability("intent")
    return [Message(*known) for known in zip(texts, tokens, embedding, probability, in_scope, strict=True)]


def choose(index: AnswerIndex, model: LanguageModel, corpus: Corpus) -> AnswerRule:
    """Choose the weights and threshold of the lowest expected cost on the labelled validation messages.

    A match is right if the answer has the message's intent. If no intent has both messages and answers, each
    answer's own question is matched against all other answers, and the threshold is the 90th percentile of
    those scores.
    """
    inside, labels, outside = _judged(index, model, corpus, "validation")
    if not len(labels):
        return _without_labels(index, model)
    costs = Costs(model.config.wrong_answer_cost, model.config.out_of_scope_share)
    best: tuple[float, AnswerRule] | None = None
    for weights in _TRIED:
        score, right = _best(index, inside, labels, weights)
        beyond = np.array([total(parts, weights).max() for parts in outside])
        threshold = least_cost_threshold(score, right, beyond, costs)
        cost = expected_cost(score, right, beyond, threshold, costs)
        if best is None or cost < best[0]:
            best = cost, AnswerRule(weights, threshold, f"{len(labels)} labelled validation messages")
    assert best is not None
    return best[1]


def figures(index: AnswerIndex, rule: AnswerRule, model: LanguageModel, corpus: Corpus) -> dict[str, Any]:
    """Return recall at 1 and 5, and how the rule treats messages, on held-out messages."""
    split = "test" if len(corpus.rows("test", "intent")) else "validation"
    inside, labels, outside = _judged(index, model, corpus, split)
    told: dict[str, Any] = {"split": split, "num_answers": len(index.entries), "rule": rule.as_dict()}
    if not len(labels):
        return told | {"num_messages": 0}
    score, right = _best(index, inside, labels, rule.weights)
    given = score >= rule.threshold
    first_five = [np.argsort(-total(parts, rule.weights), kind="stable")[:5] for parts in inside]
    found = [(index.arrays["intent"][f] == y).any() for f, y in zip(first_five, labels, strict=True)]
    beyond = np.array([total(parts, rule.weights).max() for parts in outside])
    return told | {
        "num_messages": len(labels),
        "recall_at_1": float(right.mean()),
        "recall_at_5": float(np.mean(found)),
        "share_answered": float(given.mean()),
        "right_of_answered": float(right[given].mean()) if given.any() else None,
        "num_without_answer": len(beyond),
        "share_of_those_handed_over": float((beyond < rule.threshold).mean()) if len(beyond) else None,
    }


def _judged(
    index: AnswerIndex, model: LanguageModel, corpus: Corpus, split: str
) -> tuple[list[Float64], Labels, list[Float64]]:
    """Return the score parts of messages with an answer, their intents, and those of messages without."""
    rows = corpus.rows(split, "intent")[:_MOST_JUDGED]
    labels = corpus.label["intent"][rows]
    answered = np.isin(labels, index.arrays["intent"])
    outside = np.concatenate([rows[~answered], corpus.out_of_scope(split)[:_MOST_JUDGED]])
    inside, beyond = (
        [index.parts(message) for message in messages_of(model, corpus.texts_of(chosen))]
        for chosen in (rows[answered], outside)
    )
    return inside, labels[answered], beyond


def _best(
    index: AnswerIndex, inside: Sequence[Float64], labels: Labels, weights: Weights
) -> tuple[Float64, NDArray[np.bool_]]:
    scores = [total(parts, weights) for parts in inside]
    chosen = np.array([int(score.argmax()) for score in scores])
    return np.array([score.max() for score in scores]), index.arrays["intent"][chosen] == labels


def _without_labels(index: AnswerIndex, model: LanguageModel) -> AnswerRule:
    questions = [(i, e.question) for i, e in enumerate(index.entries) if e.question]
    others = []
    for (own, _), message in zip(questions, messages_of(model, [q for _, q in questions]), strict=True):
        score = total(index.parts(message), UNLABELLED)
        score[[i for i, e in enumerate(index.entries) if e.answer == index.entries[own].answer]] = -1.0
        others.append(float(score.max()))
    threshold = float(np.quantile(others, _UNLABELLED_SHARE)) if others else 1.0
    return AnswerRule(
        UNLABELLED, threshold, "the answers' own questions: no message with an answer is labelled"
    )


def _bm25(documents: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of AnswerIndex for documents of token ids; a term's rarity bounds its BM25 weight."""
    lengths = np.array([max(1, len(tokens)) for tokens in documents], dtype=np.float64)
    postings = sorted(
        (term, entry, count)
        for entry, tokens in enumerate(documents)
        for term, count in Counter(terms(tokens).tolist()).items()
    )
    term, begin = np.unique(np.array([p[0] for p in postings], dtype=np.int64), return_index=True)
    indptr = np.append(begin, len(postings)).astype(np.int64)
    entry = np.array([p[1] for p in postings], dtype=np.int32)
    count = np.array([p[2] for p in postings], dtype=np.float64)
    frequency, num = np.diff(indptr), len(documents)
    idf = np.log1p((num - frequency + 0.5) / (frequency + 0.5))
    norm = _SATURATION * (1 - _LENGTH + _LENGTH * lengths / lengths.mean())
    weight = np.repeat(idf, frequency) * count * (_SATURATION + 1) / (count + norm[entry])
    return {
        "term": term,
        "term_indptr": indptr,
        "term_entry": entry,
        "term_weight": weight.astype(np.float32),
        "term_rarity": idf.astype(np.float32),
        "unknown_rarity": np.array([np.log1p((num + 0.5) / 0.5)], dtype=np.float32),
    }
