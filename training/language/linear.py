"""The linear baseline: TF-IDF n-grams with a linear support vector machine, on the same splits and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

_CHINESE = range(0x4E00, 0xA000)


def fit_linear(texts: Sequence[str], label: NDArray[np.int64], seed: int = 0) -> Pipeline:
    """Fit on n-grams of 1-2 words and 2-5 characters, or of 1-3 characters if most texts are Chinese.

    label: int64 [n], one class for each text.
    """
    return make_pipeline(features(texts), LinearSVC(random_state=seed)).fit(list(texts), label)


def fit_linear_sets(texts: Sequence[str], classes: NDArray[np.bool_], seed: int = 0) -> Pipeline:
    """Fit one classifier per class on the same n-grams; classes: bool [n, classes], any number per row."""
    model = OneVsRestClassifier(LinearSVC(random_state=seed))
    return make_pipeline(features(texts), model).fit(list(texts), classes.astype(np.int64))


def features(texts: Sequence[str]) -> Any:
    """Return an unfitted TF-IDF vectoriser for the language of most texts."""
    chinese = sum(any(ord(c) in _CHINESE for c in text) for text in texts) > len(texts) / 2
    if chinese:
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
