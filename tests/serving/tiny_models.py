"""A tiny shop's model folders, all consistent, with the answers that its models must give in plain NumPy."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from shopsight.serving.contract import (
    Golden,
    GoldenTensor,
    ModelContract,
    TensorSpec,
    file_entry,
    write_goldens,
    write_json,
)
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.routing.tensors import ROUTERS
from tests.serving.tiny_graphs import write_encoder, write_retrieval, write_segment

Array = np.ndarray[Any, Any]
KEY = PseudonymKey(key_id="tiny", secret=b"not a secret: a test's key")
NUM_FACTORS = 4
SURE_FROM = 0.45  # confidence below which a message is out of scope
INTENTS, SENTIMENTS = ["delivery", "refund", "thanks"], ["negative", "positive"]
TRUST: dict[str, dict[str, Any]] = {
    "value": {"status": "widened", "reason": "missed by 25%", "miss": 0.25},
    "expected_purchases": {"status": "untested", "reason": "no backtest", "miss": None},
    "churn": {"status": "tested", "reason": "Brier score 0.2"},
}
WORDS = ["where", "is", "my", "parcel", "money", "back", "lovely", "谢谢", "?"]
PREPROCESSING = {
    "event_weights": {"view": 1.0, "cart": 3.0, "purchase": 5.0},
    "half_life_days": 30.0,
    "unobserved_weight": 0.1,
    "regularization": 0.05,
    "regularization_exponent": 0.5,
    "filter_viewed": True,
    "key_id": "tiny",
}


@dataclass
class TinyShop:
    """Random factors, features and words of one seed; every release of a test has a seed of its own."""

    seed: int = 0
    num_customers: int = 40
    num_items: int = 30
    num_features: int = 3
    num_segments: int = 3
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = rng = np.random.default_rng(self.seed)
        self.customer_ids = [f"c{i:04d}" for i in range(self.num_customers)]
        self.item_ids = [f"item-{i}" if i % 3 else f"物品-{i}" for i in range(self.num_items)]
        self.item_factor = rng.normal(size=(self.num_items, NUM_FACTORS)).astype(np.float32)
        self.user_factor = rng.normal(size=(self.num_customers, NUM_FACTORS)).astype(np.float32)
        self.user_factor[-2:] = 0.0  # known, but with nothing to learn from
        self.seen = [np.sort(rng.permutation(self.num_items)[: i % 5]) for i in range(self.num_customers)]
        self.popularity = rng.permutation(self.num_items).astype(np.float32)
        self.segment_popular = np.stack(
            [rng.permutation(self.num_items)[:5] for _ in range(self.num_segments)]
        )
        self.customer_segment = (np.arange(self.num_customers) % self.num_segments).astype(np.int32)
        self.customer_segment[-1] = -1
        self.feature = rng.normal(size=(self.num_customers, self.num_features)).astype(np.float32)
        self.feature[::7, 0] = np.nan
        self.forecast = rng.random((self.num_customers, 6)).astype(np.float32)
        self.forecast[::5] = np.nan  # never bought
        self.centre = rng.normal(size=(self.num_segments, self.num_features)).astype(np.float32)
        self.intent = rng.normal(size=(len(WORDS) + 1, len(INTENTS))).astype(np.float32)
        self.sentiment = rng.normal(size=(len(WORDS) + 1, len(SENTIMENTS))).astype(np.float32)
        self.segments = [
            {"name": f"segment {i}", "description": f"those near {i}"} for i in range(self.num_segments)
        ]

    def ranked(self, factor: Array, exclude: list[int], k: int, allow: list[int] | None = None) -> list[int]:
        """The k best items for a factor by score, without the excluded ones."""
        score = self.item_factor @ factor
        order = [int(i) for i in np.argsort(-score, kind="stable") if i not in set(exclude)]
        return [i for i in order if allow is None or i in allow][:k]

    def recommend(self, customer: int, k: int) -> tuple[list[str], list[float]]:
        """What a known customer must be shown."""
        factor = self.user_factor[customer]
        best = self.ranked(factor, self.seen[customer].tolist(), k)
        return [self.item_ids[i] for i in best], [float(self.item_factor[i] @ factor) for i in best]

    def popular(self, k: int, exclude: tuple[int, ...] = ()) -> list[str]:
        """What anybody must be shown."""
        order = [int(i) for i in np.argsort(-self.popularity, kind="stable") if i not in exclude]
        return [self.item_ids[i] for i in order if self.popularity[i] > 0][:k]

    def segment_of(self, feature: Array) -> int:
        """The nearest centre."""
        return int(np.linalg.norm(np.nan_to_num(feature) - self.centre, axis=1).argmin())

    def told(self, customer: int) -> dict[str, Any] | None:
        """The forecast part of an insight."""
        names = ("value", "value_low", "value_high", "churn", "alive", "expected_purchases")
        told = dict(zip(names, self.forecast[customer].tolist(), strict=True))
        if np.isnan(told["churn"]):
            return None
        trust = {f"{name}_{what}": said for name, one in TRUST.items() for what, said in one.items()}
        return {"horizon_days": 90, "currency": "EUR", **told, **trust}

    def understand(self, words: list[str]) -> tuple[str, float, str]:
        """Intent, its probability and sentiment of known words."""
        tokens = [WORDS.index(word) + 1 for word in words]
        logit = self.intent[tokens].mean(axis=0) / 2.0
        probability = np.exp(logit) / np.exp(logit).sum()
        sentiment = int(self.sentiment[tokens].mean(axis=0).argmax())
        return INTENTS[int(probability.argmax())], float(probability.max()), SENTIMENTS[sentiment]

    def write(self, models: Path, only: tuple[str, ...] = ()) -> Path:
        """Write the model folders and return their parent."""
        writers = {
            "mf_retrieval": self._mf_retrieval,
            "segment": self._segment,
            "intent_encoder": self._intent_encoder,
            "recommend": self._recommend,
            "profile": self._profile,
            "understand": self._understand,
            "insight": self._insight,
        }
        for name in only or tuple(writers):
            shutil.rmtree(models / name, ignore_errors=True)
            (models / name).mkdir(parents=True)
            writers[name](models / name)
            write_json(models / name / "metrics.json", {"quality": {"value": 0.5, "low": 0.4, "high": 0.6}})
        return models

    def _mf_retrieval(self, folder: Path) -> None:
        write_retrieval(folder / "model.onnx", self.item_factor)
        best = self.ranked(self.user_factor[0], [2, 5], 3)
        request = (
            GoldenTensor("USER_FACTOR", "FP32", (1, NUM_FACTORS), self.user_factor[:1].tolist()),
            GoldenTensor("EXCLUDE_ITEM", "INT64", (1, 16), [[2, 5, *[-1] * 14]]),
            GoldenTensor("ALLOW_ITEM", "INT64", (1, 16), [[-1] * 16]),
            GoldenTensor("K", "INT64", (1, 1), [[3]]),
        )
        write_goldens(folder, [Golden(request, (GoldenTensor("ITEM_INDEX", "INT64", (1, 3), [best]),))])
        inputs = [
            TensorSpec("USER_FACTOR", "FP32", (NUM_FACTORS,)),
            TensorSpec("EXCLUDE_ITEM", "INT64", (-1,)),
            TensorSpec("ALLOW_ITEM", "INT64", (-1,)),
            TensorSpec("K", "INT64", (1,)),
        ]
        outputs = [TensorSpec("ITEM_INDEX", "INT64", (-1,)), TensorSpec("SCORE", "FP32", (-1,))]
        _member(folder, inputs, outputs)

    def _segment(self, folder: Path) -> None:
        write_segment(folder / "model.onnx", self.centre)
        feature = self.feature[0]
        request = (GoldenTensor("FEATURE", "FP32", (1, self.num_features), [feature.tolist()]),)
        answer = (GoldenTensor("SEGMENT", "INT64", (1, 1), [[self.segment_of(feature)]]),)
        write_goldens(folder, [Golden(request, answer)])
        _member(
            folder,
            [TensorSpec("FEATURE", "FP32", (self.num_features,))],
            [TensorSpec("SEGMENT", "INT64", (1,)), TensorSpec("DISTANCE", "FP32", (self.num_segments,))],
        )

    def _intent_encoder(self, folder: Path) -> None:
        write_encoder(folder / "model.onnx", self.intent, self.sentiment)
        request = (
            GoldenTensor("TOKEN_ID", "INT64", (1, 4), [[1, 2, 0, 0]]),
            GoldenTensor("LENGTH", "INT64", (1, 1), [[2]]),
        )
        logit = self.intent[[1, 2]].mean(axis=0)
        answer = (GoldenTensor("INTENT_LOGIT", "FP32", (1, len(INTENTS)), [logit.tolist()]),)
        write_goldens(folder, [Golden(request, answer)])
        _member(
            folder,
            [TensorSpec("TOKEN_ID", "INT64", (-1,)), TensorSpec("LENGTH", "INT64", (1,))],
            [
                TensorSpec("INTENT_LOGIT", "FP32", (len(INTENTS),)),
                TensorSpec("SENTIMENT_LOGIT", "FP32", (len(SENTIMENTS),)),
            ],
        )

    def _recommend(self, folder: Path) -> None:
        joined = [item.encode() for item in self.item_ids]
        save_file(
            {
                "item_id": np.frombuffer(b"".join(joined), dtype=np.uint8),
                "item_id_offset": np.cumsum([0, *map(len, joined)]).astype(np.int64),
                "item_factor": self.item_factor,
                "popularity": self.popularity,
                "segment_popular": self.segment_popular.astype(np.int32),
            },
            folder / "items.safetensors",
        )
        save_file(
            {
                "customer_id": id_matrix(self.customer_ids),
                "user_factor": self.user_factor,
                "seen_indptr": np.cumsum([0, *map(len, self.seen)]).astype(np.int64),
                "seen_item": np.concatenate(self.seen).astype(np.int32),
                "segment": self.customer_segment,
            },
            folder / "customers.safetensors",
        )
        self._identities(folder)
        ids, scores = self.recommend(3, 4)
        personal = Golden(
            (_bytes("CUSTOMER_ID", [self.customer_ids[3]]), GoldenTensor("K", "INT32", (1, 1), [[4]])),
            (
                _bytes("ITEM_ID", ids),
                GoldenTensor("SCORE", "FP32", (1, 4), [scores]),
                _bytes("REASON_CODE", ["personal"] * 4),
            ),
        )
        unknown = Golden((_bytes("CUSTOMER_ID", ["nobody"]),), (_bytes("ITEM_ID", self.popular(10)),))
        write_goldens(folder, [personal, unknown])
        files = ["customers.safetensors", "identities.safetensors", "items.safetensors"]
        _router(folder, files, PREPROCESSING)

    def _profile(self, folder: Path) -> None:
        save_file(
            {
                "customer_id": id_matrix(self.customer_ids),
                "feature": self.feature,
                "forecast": self.forecast,
            },
            folder / "customers.safetensors",
        )
        self._identities(folder)
        name = self.segments[self.segment_of(self.feature[3])]["name"]
        golden = Golden((_bytes("CUSTOMER_ID", [self.customer_ids[3]]),), (_bytes("SEGMENT", [name]),))
        write_goldens(folder, [golden])
        preprocessing = {
            "feature_names": [f"feature_{i}" for i in range(self.num_features)],
            "segments": self.segments,
            "forecast": {"currency": "EUR", "horizon_days": 90, "trust": TRUST},
            "key_id": "tiny",
        }
        _router(folder, ["customers.safetensors", "identities.safetensors"], preprocessing)

    def _understand(self, folder: Path) -> None:
        tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[PAD]", *WORDS])}, "?"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / "tokenizer.json"))
        intent, confidence, sentiment = self.understand(["where", "is", "my", "parcel"])
        answer = (
            _bytes("INTENT", [intent]),
            GoldenTensor("CONFIDENCE", "FP32", (1, 1), [[confidence]]),
            _bytes("SENTIMENT", [sentiment]),
            GoldenTensor("IS_OUT_OF_SCOPE", "BOOL", (1, 1), [[confidence < SURE_FROM]]),
        )
        write_goldens(folder, [Golden((_bytes("TEXT", ["Where is my parcel"]),), answer)])
        preprocessing = {
            "intents": INTENTS,
            "sentiments": SENTIMENTS,
            "inputs": ["TOKEN_ID", "LENGTH"],
            "abstention": {"score": "confidence", "threshold": SURE_FROM, "temperature": 2.0},
            "answers": None,
            "temperature": 2.0,
            "max_tokens": 16,
            "buckets": [4, 16],
            "max_text_bytes": 200,
        }
        _router(folder, ["tokenizer.json"], preprocessing)

    def _insight(self, folder: Path) -> None:
        ids, scores = self.recommend(3, 2)
        feature = self.feature[3].tolist()
        segment = self.segments[self.segment_of(self.feature[3])]
        insight = {
            "schema_version": 1,
            "profile": {
                "segment": segment["name"],
                "segment_description": segment["description"],
                "features": {f"feature_{i}": value for i, value in enumerate(feature)},
                "forecast": self.told(3),
            },
            "recommendations": [
                {"rank": rank, "item_id": item, "score": score, "reason_code": "personal"}
                for rank, (item, score) in enumerate(zip(ids, scores, strict=True), start=1)
            ],
            "suppressed": None,
            "understanding": None,
        }
        request = (_bytes("CUSTOMER_ID", [self.customer_ids[3]]), GoldenTensor("K", "INT32", (1, 1), [[2]]))
        write_goldens(folder, [Golden(request, (_bytes("INSIGHT", [json.dumps(insight)]),))])
        _router(folder, [], {})

    def _identities(self, folder: Path) -> None:
        """Customer i is known to source web as w<i>; web's `lost` belongs to nobody with a model."""
        pairs = [(KEY.pseudonym("web", f"w{i}"), i) for i in range(self.num_customers)]
        pairs = sorted([*pairs, (KEY.pseudonym("web", "lost"), -1)])
        arrays = {
            "pseudonym": id_matrix([pseudonym for pseudonym, _ in pairs]),
            "customer_row": np.array([row for _, row in pairs], dtype=np.int64),
        }
        save_file(arrays, folder / "identities.safetensors")


def id_matrix(ids: list[str]) -> Array:
    """Ids as uint8 [n, width], zero-padded."""
    width = max(len(name.encode()) for name in ids)
    joined = b"".join(name.encode().ljust(width, b"\0") for name in ids)
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(ids), width).copy()


def _bytes(name: str, values: list[str]) -> GoldenTensor:
    return GoldenTensor(name, "BYTES", (1, len(values)), [values])


def _member(folder: Path, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    ModelContract(
        name=folder.name,
        kind="onnx",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=256,
        files=(file_entry(folder, "model.onnx"),),
    ).write(folder)


def _router(folder: Path, files: list[str], preprocessing: dict[str, Any]) -> None:
    tensors = ROUTERS[folder.name]
    ModelContract(
        name=folder.name,
        kind="router",
        inputs=tensors.inputs,
        outputs=tuple(spec for spec in tensors.outputs if "ANSWER" not in spec.name),
        max_batch_size=tensors.max_batch_size,
        files=tuple(file_entry(folder, name) for name in files),
        calls=tensors.calls[:1] if folder.name == "recommend" else tensors.calls,
        preprocessing=preprocessing,
    ).write(folder)
