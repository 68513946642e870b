"""The tensors of the public models: exporters write them into contracts, the gate compares them."""

from __future__ import annotations

from dataclasses import dataclass

from serving.contract import TensorSpec

MAX_BATCH_SIZE = 64


@dataclass(frozen=True)
class RouterTensors:
    """What a router takes, gives, and which members it may ask; dims are without the batch dimension."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calls: tuple[str, ...]
    max_batch_size: int = MAX_BATCH_SIZE


_PERSON = (
    TensorSpec("CUSTOMER_ID", "BYTES", (1,), optional=True),
    TensorSpec("SOURCE", "BYTES", (1,), optional=True),
    TensorSpec("SOURCE_ID", "BYTES", (1,), optional=True),
)
_RELEASE = TensorSpec("RELEASE", "BYTES", (1,))

RECOMMEND = RouterTensors(
    inputs=(
        *_PERSON,
        TensorSpec("HISTORY_ITEM", "BYTES", (-1,), optional=True),
        TensorSpec("HISTORY_EVENT", "BYTES", (-1,), optional=True),
        TensorSpec("HISTORY_TIME", "INT64", (-1,), optional=True),
        TensorSpec("EXCLUDE", "BYTES", (-1,), optional=True),
        TensorSpec("ALLOW", "BYTES", (-1,), optional=True),
        TensorSpec("K", "INT32", (1,), optional=True),
        TensorSpec("PERSONALISED", "BOOL", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("ITEM_ID", "BYTES", (-1,)),
        TensorSpec("SCORE", "FP32", (-1,)),
        TensorSpec("REASON_CODE", "BYTES", (-1,)),
        TensorSpec("SUPPRESSED", "BYTES", (1,)),
        _RELEASE,
        TensorSpec("REQUEST_ID", "BYTES", (1,)),
    ),
    calls=("mf_retrieval", "two_tower_retrieval", "ranker"),
)

# What a value model tells of a customer who bought, NaN of others; left out of the contract when none was
# trained. Everything is within the next HORIZON_DAYS; CHURN is the probability of no purchase in them.
FORECAST = (
    TensorSpec("VALUE", "FP32", (1,), optional=True),
    TensorSpec("VALUE_LOW", "FP32", (1,), optional=True),
    TensorSpec("VALUE_HIGH", "FP32", (1,), optional=True),
    TensorSpec("CHURN", "FP32", (1,), optional=True),
    TensorSpec("ALIVE", "FP32", (1,), optional=True),
    TensorSpec("EXPECTED_PURCHASES", "FP32", (1,), optional=True),
)
FORECAST_UNITS = (
    TensorSpec("CURRENCY", "BYTES", (1,), optional=True),
    TensorSpec("HORIZON_DAYS", "INT32", (1,), optional=True),
)

PROFILE = RouterTensors(
    inputs=(*_PERSON, TensorSpec("FEATURE", "FP32", (-1,), optional=True)),
    outputs=(
        TensorSpec("SEGMENT", "BYTES", (1,)),
        TensorSpec("SEGMENT_DESCRIPTION", "BYTES", (1,)),
        TensorSpec("FEATURE_NAME", "BYTES", (-1,)),
        TensorSpec("FEATURE_VALUE", "FP32", (-1,)),
        *FORECAST,
        *FORECAST_UNITS,
        _RELEASE,
    ),
    calls=("segment",),
)

UNDERSTAND = RouterTensors(
    inputs=(TensorSpec("TEXT", "BYTES", (1,)),),
    outputs=(
        TensorSpec("INTENT", "BYTES", (1,)),
        TensorSpec("CONFIDENCE", "FP32", (1,)),
        # All that the message wants, likeliest first; left out when no message of training wanted several.
        TensorSpec("INTENTS", "BYTES", (-1,), optional=True),
        # Left out of the contract when the model was not trained on sentiment.
        TensorSpec("SENTIMENT", "BYTES", (1,), optional=True),
        TensorSpec("IS_OUT_OF_SCOPE", "BOOL", (1,)),
        # Left out when the shop has no answers; both are empty where a person should answer.
        TensorSpec("ANSWER", "BYTES", (1,), optional=True),
        TensorSpec("ANSWER_SOURCE", "BYTES", (1,), optional=True),
        _RELEASE,
    ),
    calls=("intent_encoder",),
)

INSIGHT = RouterTensors(
    inputs=(
        *_PERSON,
        TensorSpec("TEXT", "BYTES", (1,), optional=True),
        TensorSpec("K", "INT32", (1,), optional=True),
    ),
    outputs=(TensorSpec("INSIGHT", "BYTES", (1,)),),
    calls=("recommend", "profile", "understand"),
)

ROUTERS = {"recommend": RECOMMEND, "profile": PROFILE, "understand": UNDERSTAND, "insight": INSIGHT}
