"""Settings of the profile models: features, segments and how their number is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProfilesConfig:
    """How customers are measured and grouped.

    half_life_days: age at which an event counts half in recency-weighted counts.
    max_channels, max_categories: the most frequent ones get shares of their own, the rest share "other".
    min_events: customers with fewer events are put aside as newcomers instead of guessed at.
    well_known_events: segments are formed by customers with at least so many events, where there are enough
        of them; everyone else but the newcomers is assigned to what those formed.
    prior_events: how many events' worth of the average customer is mixed into a share, so that one
        purchase in a category is no taste yet (empirical Bayes).
    volume_weight: what features of how much a customer does (recency, frequency, money) weigh beside those
        of what and how; segments say who customers are, a value model says what they are worth.
    variance: share of the variance that the principal components keep.
    num_segments: 0 chooses between min_segments and max_segments by stability and silhouette.
    num_bootstraps: resamples that stability is measured on; sample_size: most customers used to choose.
    """

    half_life_days: float = 30.0
    max_channels: int = 8
    max_categories: int = 12
    min_events: int = 3
    well_known_events: int = 10
    prior_events: float = 3.0
    volume_weight: float = 0.25
    variance: float = 0.8
    num_segments: int = 0
    min_segments: int = 3
    max_segments: int = 9
    num_bootstraps: int = 5
    sample_size: int = 6_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.half_life_days <= 0:
            raise ValueError(f"half_life_days is {self.half_life_days}; it must be above 0")
        if self.prior_events <= 0:
            raise ValueError(f"prior_events is {self.prior_events}; it must be above 0")
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; it must be above 0 and at most 1")
        if not 2 <= self.min_segments <= self.max_segments:
            raise ValueError(
                f"min_segments is {self.min_segments} and max_segments {self.max_segments}; "
                "they must be at least 2 and in this order"
            )
