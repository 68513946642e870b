"""Settings of the recommender: how events become weights, how it is fitted, how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shopsight.training.artifacts.plain_settings import take_plain_values
from shopsight.training.recommend.mf.config import MFConfig


@dataclass(frozen=True)
class EventWeights:
    """What one event says about a customer's liking of an item.

    A return takes back what the purchase said. A rating counts (rating - 3) / 2 times its weight, so that
    a bad one counts against the item. Other events (search, message, exposure) say nothing of an item.
    """

    view: float = 1.0
    cart: float = 3.0
    purchase: float = 5.0
    rating: float = 3.0
    review: float = 0.0  # the rating of a review arrives as its own value; the text alone says nothing

    def __post_init__(self) -> None:
        take_plain_values(self)
        if min(self.view, self.cart, self.purchase, self.rating, self.review) < 0:
            raise ValueError(f"event weights must be 0 or above, not {self}")


@dataclass(frozen=True)
class Rules:
    """What is never recommended, whatever the models say, and how varied a list must be.

    hidden_categories: paths of categories, with all that lies below them. least_price, most_price: of an
        item in the shop's currency, 0 for no bound; an item without a price passes. max_per_category: of one
        department in a list as long as others are left, 0 for any number.
    What cannot be sold, and what was bought where nobody buys twice, is left out without a rule.
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
    """What each list says in the order of a blend; chosen on the validation parts of online_retail and ml1m.

    There popularity and the ranker's order on their own are worse than either retriever: the first adds items
    to choose from and no more, the second settles what the others leave open.
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
    """Who is helped before anything is offered to them: nothing is recommended within `days` of these.

    events: of the events table; intents: that the language model reads in the customer's messages. days = 0
    offers to everybody. A message that comes with a request counts by its intent too, whatever the days.
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
        if self.bought_again not in ("auto", "yes", "no"):
            raise ValueError(f"bought_again is {self.bought_again!r}; it must be auto, yes or no")
        if not self.unobserved_weights or not self.regularizations:
            raise ValueError("unobserved_weights and regularizations each need at least one value")
