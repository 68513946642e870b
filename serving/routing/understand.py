"""The understand router: a message in, its intent and its sentiment out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from serving.contract import ModelContract
from serving.routing.rows import RequestError, Row, byte_strings

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]

TOKENIZER_FILE = "tokenizer.json"


class UnderstandRouter:
    """Answers `understand` rows; one call of the member for all texts of one padded length.

    Normalisation, special tokens and truncation are part of tokenizer.json. preprocessing: intents and
    sentiments (names in the order of the member's outputs; no sentiments: none was learned), temperature
    (of the intents' softmax), buckets (padded lengths, ascending), max_text_bytes.
    """

    def __init__(self, folder: Path, release: str) -> None:
        preprocessing = ModelContract.read(folder).preprocessing
        self._release = release.encode()
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._intents = [str(name).encode() for name in preprocessing["intents"]]
        self._sentiments = [str(name).encode() for name in preprocessing["sentiments"]]
        self._temperature = float(preprocessing["temperature"])
        self._buckets = sorted(int(length) for length in preprocessing["buckets"])
        self._max_text_bytes = int(preprocessing["max_text_bytes"])

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        texts = [self._text_or_error(row) for row in rows]
        readable = [(i, text) for i, text in enumerate(texts) if isinstance(text, str)]
        by_row: dict[int, Answer] = {}
        for positions, inputs in self._padded(readable):
            answer = ask("intent_encoder", inputs)
            for place, position in enumerate(positions):
                by_row[position] = self._answer({name: value[place] for name, value in answer.items()})
        return [text if isinstance(text, RequestError) else by_row[i] for i, text in enumerate(texts)]

    def _text_or_error(self, row: Row) -> str | RequestError:
        try:
            return self._text(row)
        except RequestError as error:
            return error

    def _text(self, row: Row) -> str:
        raw = row.text("TEXT") or b""
        if len(raw) > self._max_text_bytes:
            raise RequestError(
                f"TEXT has {len(raw)} bytes, at most {self._max_text_bytes} are read; send its first part"
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"TEXT is not valid UTF-8 (byte {error.start}); send UTF-8") from error
        if not text.strip():
            raise RequestError("TEXT is empty; send what the customer wrote")
        return text

    def _padded(self, texts: Sequence[tuple[int, str]]) -> list[tuple[list[int], dict[str, Array]]]:
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([t for _, t in texts])]
        groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for (position, _), ids in zip(texts, tokens, strict=True):
            ids = ids[: self._buckets[-1]]
            groups[next(length for length in self._buckets if length >= len(ids))].append((position, ids))
        return [([p for p, _ in rows], _member_inputs([i for _, i in rows], n)) for n, rows in groups.items()]

    def _answer(self, output: Mapping[str, Array]) -> Answer:
        logit = output["INTENT_LOGIT"].astype(np.float64) / self._temperature
        probability = np.exp(logit - logit.max())
        probability /= probability.sum()
        intent = int(probability.argmax())
        answer = {
            "INTENT": byte_strings([self._intents[intent]]),
            "CONFIDENCE": probability[intent : intent + 1].astype(np.float32),
            "RELEASE": byte_strings([self._release]),
        }
        if self._sentiments:
            answer["SENTIMENT"] = byte_strings([self._sentiments[int(output["SENTIMENT_LOGIT"].argmax())]])
        return answer


def _member_inputs(tokens: Sequence[Sequence[int]], length: int) -> dict[str, Array]:
    token_id = np.zeros((len(tokens), length), dtype=np.int64)
    for row, ids in zip(token_id, tokens, strict=True):
        row[: len(ids)] = ids
    lengths = np.array([[len(ids)] for ids in tokens], dtype=np.int64)
    return {"TOKEN_ID": token_id, "LENGTH": lengths}
