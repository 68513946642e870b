"""Settings of the embedding recommenders: a two-tower retriever, and a ranker of its candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

from shopsight.training.artifacts.plain_settings import take_plain_values

SHARDINGS = ("table_wise", "row_wise", "column_wise")
ITEM_DTYPES = ("float32", "float16", "int8")
OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop of either model, on any number of workers.

    batch_size: examples of one step over all workers, who share it; so a fit on three workers takes the
        same steps as one on two. sharding: ways in which the planner may lay a table over the workers.
    embedding_optimizer, embedding_learning_rate: fused into the backward pass of the tables; the rest learns
        by Adam at learning_rate. checkpoint_steps: steps between checkpoints, 0 for one an epoch.
    patience: epochs without a better validation after which a fit stops; 0 runs all epochs.
    """

    epochs: int = 10
    batch_size: int = 1024
    learning_rate: float = 1e-3
    embedding_optimizer: str = "adagrad"
    embedding_learning_rate: float = 0.05
    sharding: tuple[str, ...] = SHARDINGS
    checkpoint_steps: int = 0
    patience: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        for name in ("epochs", "batch_size", "learning_rate", "embedding_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.embedding_optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise ValueError(
                f"embedding_optimizer is {self.embedding_optimizer!r}; it must be one of {known}"
            )
        unknown = sorted(set(self.sharding) - set(SHARDINGS))
        if unknown or not self.sharding:
            raise ValueError(f"sharding is {self.sharding}; it takes any of {', '.join(SHARDINGS)}")
        if self.embedding_optimizer == "rowwise_adagrad" and "column_wise" in self.sharding:
            raise ValueError(
                "rowwise_adagrad keeps one state a row, column-wise shards would each keep their own, which "
                "another number of workers cannot read: take column_wise out of sharding, or take adagrad"
            )


@dataclass(frozen=True)
class FeatureConfig:
    """Settings of the inputs of both models.

    max_history: latest items of a customer that count, the most recent of them also in a bag of num_recent
        and one of the very last. item_buckets: rows of the tables that items share which training did not
        know; customer_buckets: rows for hashed customer ids, 0 for models that know customers by what they
        did alone. bucket_share: share of the ids that training hides behind their bucket, so that buckets
        learn; history_dropout: share of a history's items that training leaves away.
        gap_hours: what a customer did so shortly before an example is no history of it, for
        who just looked at an item needs no recommendation of it.
    """

    max_history: int = 50
    num_recent: int = 5
    item_buckets: int = 64
    customer_buckets: int = 0
    bucket_share: float = 0.02
    history_dropout: float = 0.0
    gap_hours: float = 24.0

    def __post_init__(self) -> None:
        take_plain_values(self)
        for name in ("max_history", "num_recent", "item_buckets"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or above")
        for name in ("bucket_share", "history_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if self.customer_buckets < 0 or self.gap_hours < 0:
            raise ValueError("customer_buckets and gap_hours must be 0 or above")


@dataclass(frozen=True)
class TwoTowerConfig:
    """Towers of customers and items whose vectors meet in a scaled dot product.

    num_negatives: items drawn evenly for each step beside those of the batch itself. popularity_correction:
        share of log Q that is taken off a candidate's logit, 1 for the unbiased one (Yi et al., 2019).
    """

    dim: int = 64
    layers: tuple[int, ...] = (128,)
    temperature: float = 0.1
    num_negatives: int = 1024
    popularity_correction: float = 1.0
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        take_plain_values(self)
        if self.dim < 4 or self.dim % 4:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of 4, as the tables' kernels ask")
        if self.temperature <= 0 or self.num_negatives < 0:
            raise ValueError("temperature must be above 0 and num_negatives 0 or above")


@dataclass(frozen=True)
class RankerConfig:
    """A DLRM-style ranker (Naumov et al., 2019): pairwise dot products of embeddings and dense features.

    num_negatives: candidates beside each example's own item, half drawn by popularity and half evenly.
    num_candidates: how many of the towers' best are put in a new order where the ranker is judged.
    """

    dim: int = 32
    dense_layers: tuple[int, ...] = (64,)
    layers: tuple[int, ...] = (128, 64)
    num_negatives: int = 32
    num_candidates: int = 100
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=2, batch_size=512, patience=0))

    def __post_init__(self) -> None:
        take_plain_values(self)
        if self.dim < 4 or self.dim % 4:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of 4, as the tables' kernels ask")
        for name in ("num_negatives", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or above")


@dataclass(frozen=True)
class EmbeddingConfig:
    """Settings of both models, their inputs, and the storage of served item vectors.

    test_days, k, max_judged, num_bootstraps: as RecommendConfig has them. item_dtype: storage of the served
        item vectors, float32, float16 or int8; what recall each has stands in the metrics.
    """

    test_days: float = 0.0
    k: int = 10
    max_judged: int = 50_000
    num_bootstraps: int = 500
    features: FeatureConfig = field(default_factory=FeatureConfig)
    two_tower: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    item_dtype: str = "float32"

    def __post_init__(self) -> None:
        take_plain_values(self)
        if self.item_dtype not in ITEM_DTYPES:
            raise ValueError(f"item_dtype is {self.item_dtype!r}; it must be one of {', '.join(ITEM_DTYPES)}")
