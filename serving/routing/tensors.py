"""The tensors of the public models. Exporters write them into contracts, and the gate compares them."""

from __future__ import annotations

from dataclasses import dataclass

from shopsight.serving.contract import Bounds, TensorSpec

MAX_BATCH_SIZE = 64
MAX_ITEMS = 10_000  # of a history and of the lists of items in one row
MAX_K = 1000
_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999

_ID = Bounds(max_bytes=1024)
_IDS = Bounds(max_values=MAX_ITEMS, max_bytes=1024)
_EVENTS = Bounds(max_values=MAX_ITEMS, max_bytes=64)
_TIMES = Bounds(MAX_ITEMS, minimum=_YEAR_1, maximum=_YEAR_9999, unit="microseconds since 1970 in UTC")
_K = Bounds(minimum=1, maximum=MAX_K)
_FEATURES = Bounds(minimum=-1e15, maximum=1e15, unit="or NaN where nothing was measured")


@dataclass(frozen=True)
class RouterTensors:
    """A router's inputs, outputs and the members that it may call; dims exclude the batch dimension."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calls: tuple[str, ...]
    max_batch_size: int = MAX_BATCH_SIZE
    num_instances: int = 1  # processes that answer beside each other


_PERSON = (
    TensorSpec("CUSTOMER_ID", "BYTES", (1,), optional=True, bounds=_ID),
    TensorSpec("SOURCE", "BYTES", (1,), optional=True, bounds=_ID),
    TensorSpec("SOURCE_ID", "BYTES", (1,), optional=True, bounds=_ID),
)
_RELEASE = TensorSpec("RELEASE", "BYTES", (1,))

RECOMMEND = RouterTensors(
    inputs=(
        *_PERSON,
        TensorSpec("HISTORY_ITEM", "BYTES", (-1,), optional=True, bounds=_IDS),
        TensorSpec("HISTORY_EVENT", "BYTES", (-1,), optional=True, bounds=_EVENTS),
        TensorSpec("HISTORY_TIME", "INT64", (-1,), optional=True, bounds=_TIMES),
        TensorSpec("EXCLUDE", "BYTES", (-1,), optional=True, bounds=_IDS),
        TensorSpec("ALLOW", "BYTES", (-1,), optional=True, bounds=_IDS),
        TensorSpec("K", "INT32", (1,), optional=True, bounds=_K),
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

# Forecasts of a value model for customers with purchases; they are not in the contract without such a model.
# All refer to the next HORIZON_DAYS; CHURN is the probability of no purchase in them.
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
# How each number was tested, the same for every customer of a release: STATUS is tested, widened (VALUE_LOW
# and VALUE_HIGH include the error of the backtest), untested or withheld (then the number is missing). REASON
# says why. MISS is |expected - happened| / happened of the backtest's total, missing without a backtest.
FORECAST_TRUST = (
    TensorSpec("VALUE_STATUS", "BYTES", (1,), optional=True),
    TensorSpec("VALUE_REASON", "BYTES", (1,), optional=True),
    TensorSpec("VALUE_MISS", "FP32", (1,), optional=True),
    TensorSpec("EXPECTED_PURCHASES_STATUS", "BYTES", (1,), optional=True),
    TensorSpec("EXPECTED_PURCHASES_REASON", "BYTES", (1,), optional=True),
    TensorSpec("EXPECTED_PURCHASES_MISS", "FP32", (1,), optional=True),
    TensorSpec("CHURN_STATUS", "BYTES", (1,), optional=True),
    TensorSpec("CHURN_REASON", "BYTES", (1,), optional=True),
)

PROFILE = RouterTensors(
    inputs=(*_PERSON, TensorSpec("FEATURE", "FP32", (-1,), optional=True, bounds=_FEATURES)),
    outputs=(
        TensorSpec("SEGMENT", "BYTES", (1,)),
        TensorSpec("SEGMENT_DESCRIPTION", "BYTES", (1,)),
        TensorSpec("FEATURE_NAME", "BYTES", (-1,)),
        TensorSpec("FEATURE_VALUE", "FP32", (-1,)),
        *FORECAST,
        *FORECAST_UNITS,
        *FORECAST_TRUST,
        # Names of the features and of the outputs above that are unknown for this customer and are 0.
        TensorSpec("MISSING", "BYTES", (-1,)),
        _RELEASE,
    ),
    calls=("segment",),
)

UNDERSTAND = RouterTensors(
    inputs=(TensorSpec("TEXT", "BYTES", (1,)),),
    outputs=(
        TensorSpec("INTENT", "BYTES", (1,)),
        TensorSpec("CONFIDENCE", "FP32", (1,)),
        # All intents of the message, likeliest first; left out if every training message had one intent.
        TensorSpec("INTENTS", "BYTES", (-1,), optional=True),
        # Left out of the contract if the model was not trained on sentiment.
        TensorSpec("SENTIMENT", "BYTES", (1,), optional=True),
        TensorSpec("IS_OUT_OF_SCOPE", "BOOL", (1,)),
        # Left out if the shop has no answers; both are empty if a person should answer.
        TensorSpec("ANSWER", "BYTES", (1,), optional=True),
        TensorSpec("ANSWER_SOURCE", "BYTES", (1,), optional=True),
        _RELEASE,
    ),
    calls=("intent_encoder",),
    num_instances=2,
)

INSIGHT = RouterTensors(
    inputs=(
        *_PERSON,
        TensorSpec("TEXT", "BYTES", (1,), optional=True),
        TensorSpec("K", "INT32", (1,), optional=True, bounds=_K),
    ),
    outputs=(TensorSpec("INSIGHT", "BYTES", (1,)),),
    calls=("recommend", "profile", "understand"),
)

# One line per public model. Its router is the class <Name>Router in routing/<name>.py.
ROUTERS = {"recommend": RECOMMEND, "profile": PROFILE, "understand": UNDERSTAND, "insight": INSIGHT}
