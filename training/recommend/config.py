"""Settings of the recommender: weights of events, fitting, evaluation, rules and serving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shopsight.training.artifacts.plain_settings import take_plain_values
from shopsight.training.recommend.mf.config import MFConfig


@dataclass(frozen=True)
class EventWeights:
    """Weights of events in the matrix of customers and items.

    A return has the weight of a purchase with the opposite sign. A rating counts (rating - 3) / 2 times its
    weight, so that a bad one counts against the item. Other events (search, message, exposure) do not count.
    """

    view: float = 1.0
    cart: float = 3.0
    purchase: float = 5.0
    rating: float = 3.0
    review: float = 0.0  # the rating of a review is an event of its own

    def __post_init__(self) -> None:
        take_plain_values(self)
        if min(self.view, self.cart, self.purchase, self.rating, self.review) < 0:
            raise ValueError(f"event weights must be 0 or above, not {self}")


@dataclass(frozen=True)
class Rules:
    """Rules on what is never recommended, and on the variety of a list.

    hidden_categories: paths of categories to hide, with their subcategories. least_price, most_price: bounds
        of the price in the shop's currency, 0 for none; an item without a price passes. max_per_category:
        most items of one department in a list while other items are left, 0 for any number.
    Items that cannot be sold, and items bought before if `bought_again` is not chosen, need no rule.
    """

    hidden_categories: tuple[str, ...] = ()
    least_price: float = 0.0
    most_price: float = 0.0
    max_per_category: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        if min(self.least_price, self.most_price, self.max_per_category) < 0:
            raise ValueError(f"least_price, most_price and max_per_category must be 0 or above, not {self}")
        if self.most_price and self.most_price < self.least_price:
            raise ValueError(f"most_price {self.most_price} is below least_price {self.least_price}")


BLEND_SOFTNESS = 20.0


@dataclass(frozen=True)
class BlendWeights:
    """Weights of the lists in a blend, chosen on the validation sets of online_retail and ml1m.

    There, popularity and the ranker alone are worse than either retriever: popularity only adds candidates,
    and the ranker decides between candidates that the retrievers score alike.
    """

    factorised: float = 1.0
    towers: float = 1.0
    popular: float = 0.0
    ranker: float = 0.5

    def __post_init__(self) -> None:
        take_plain_values(self)
        if min(self.factorised, self.towers, self.popular, self.ranker) < 0:
            raise ValueError(f"blend_weights must be 0 or above, not {self}")


@dataclass(frozen=True)
class Suppression:
    """Suppression of recommendations for `days` days after these events or intents of a customer.

    events: of the events table; intents: as read by the language model in the customer's messages. With days
    = 0 nothing is suppressed. The intent of a message that is part of a request counts too, whatever the
    days.
    """

    events: tuple[str, ...] = ("return",)
    intents: tuple[str, ...] = ("complaint", "damaged_item", "wrong_item", "return_request")
    days: float = 7.0

    def __post_init__(self) -> None:
        take_plain_values(self)
        if self.days < 0:
            raise ValueError(f"suppression.days is {self.days}; it must be 0 or above")
        if len(self.events) + len(self.intents) > 255:
            raise ValueError("suppression.events and suppression.intents name more than 255 things")


@dataclass(frozen=True)
class Computation:
    """How the factorisation is computed, whatever it learns: the options of `MFConfig` with these names.

    solver: "exact" or "cg" with num_cg_steps. storage: of the factors while they are fitted. backend: "auto",
    "cpu" or "cuda". memory_limit_gib: what a fit may take, 0 for what the device has; what does not fit at
    once is fitted by blocks.
    """

    solver: str = "exact"
    num_cg_steps: int = 3
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    initial_deviation: float = 0.1
    backend: str = "auto"
    memory_limit_gib: float = 0.0

    def __post_init__(self) -> None:
        take_plain_values(self)
        MFConfig(**vars(self))  # its rules


@dataclass(frozen=True)
class RecommendConfig:
    """How interactions are weighted, split, fitted and served.

    half_life_days: age, counted back from the customer's own latest event, at which an event counts half.
    half_life_steps: steps back from the customer's latest event at which an event counts half, beside its
        age; events of one moment, such as the lines of an order, are one step; 0 for no such fading.
    factors, iterations, regularization_exponent: of the matrix factorisation (mf/); unobserved_weights
        and regularizations are tried in every combination and chosen on the validation window alone.
    computation: how it is computed.
    test_days: length of the test window, and of the validation window before it; 0 takes a tenth of the
        span of the data, at most 28 days.
    k: length of the list that is judged. bought_again: whether bought items may be recommended; "auto"
        decides on the validation window.
    num_popular: length of the popularity lists that are served to customers without history.
    max_judged: most customers that a choice or a figure is taken over, drawn at random.
    blend: whether the embedding models, where they are trained, propose items beside the factorisation, and
        the ranker has a say in the order; num_candidates: how many each of them proposes.
    content: whether items that nobody touched yet get factors from their title, category and attributes;
        content_pictures: the folder that image_path of the items table counts from, "" for no pictures.
    """

    event_weights: EventWeights = field(default_factory=EventWeights)
    half_life_days: float = 60.0
    half_life_steps: float = 0.0
    factors: int = 64
    iterations: int = 12
    regularization_exponent: float = 1.0
    unobserved_weights: tuple[float, ...] = (0.03, 0.1)
    regularizations: tuple[float, ...] = (0.01, 0.05)
    computation: Computation = field(default_factory=Computation)
    test_days: float = 0.0
    k: int = 10
    bought_again: str = "auto"
    num_popular: int = 100
    num_bootstraps: int = 500
    max_judged: int = 50_000
    rules: Rules = field(default_factory=Rules)
    suppression: Suppression = field(default_factory=Suppression)
    blend: bool = True
    blend_weights: BlendWeights = field(default_factory=BlendWeights)
    num_candidates: int = 100
    content: bool = True
    content_pictures: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        for name in (
            "half_life_days",
            "factors",
            "iterations",
            "k",
            "num_popular",
            "num_bootstraps",
            "num_candidates",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.half_life_steps < float("inf"):
            raise ValueError(f"half_life_steps is {self.half_life_steps}; it must be 0 or above, and finite")
        if self.bought_again not in ("auto", "yes", "no"):
            raise ValueError(f"bought_again is {self.bought_again!r}; it must be auto, yes or no")
        if not self.unobserved_weights or not self.regularizations:
            raise ValueError("unobserved_weights and regularizations each need at least one value")
