"""Settings of the profile models: features, segments and how their number is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import available_timezones

from shopsight.training.artifacts.plain_settings import take_plain_values


@dataclass(frozen=True)
class ProfilesConfig:
    """Settings of features and segments.

    timezone: IANA name of the time zone of the features of hours and weekdays.
    half_lives_days: ages in days at which an event counts half; there is one recency-weighted count for each.
    max_channels, max_categories: number of the most frequent ones with a share of their own; the rest share
        "other".
    max_intents: number of the most frequent intents of messages with a share of their own.
    min_events: customers with fewer events are newcomers and get no segment of their own.
    well_known_events: segments are fitted to customers with at least so many events, if there are enough of
        them; other customers, except newcomers, are then assigned to these segments.
    prior_events: weight, in events, of the average customer in a share, so that one purchase in a category
        is not yet a taste (empirical Bayes).
    volume_weight: weight of features of volume (recency, frequency, money) relative to the others; segments
        describe how customers shop, and the value model what they are worth.
    variance: share of the variance that the principal components keep.
    num_segments: number of segments; 0 chooses it from min_segments to max_segments by stability and
        silhouette.
    num_bootstraps: resamples to measure stability on. sample_size: most customers used to choose the number
        and to find dense groups.
    migration_days: days before the last event as of which customers are measured too, to see who changed
        segment; 0 for none.
    draw_umap: whether UMAP draws the picture of customers, if it is installed.
    """

    timezone: str = "UTC"
    half_lives_days: tuple[float, ...] = (7.0, 30.0, 90.0)
    max_channels: int = 8
    max_categories: int = 12
    max_intents: int = 8
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
    migration_days: int = 90
    draw_umap: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        if not self.half_lives_days or min(self.half_lives_days) <= 0:
            raise ValueError(f"half_lives_days is {self.half_lives_days}; give at least one, all above 0")
        if len(set(self.half_lives_days)) < len(self.half_lives_days):
            raise ValueError(f"half_lives_days is {self.half_lives_days}; each may stand there once")
        if self.timezone not in available_timezones():
            raise ValueError(f"timezone is {self.timezone!r}; give an IANA name such as 'Europe/London'")
        if self.prior_events <= 0:
            raise ValueError(f"prior_events is {self.prior_events}; it must be above 0")
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; it must be above 0 and at most 1")
        if self.migration_days < 0:
            raise ValueError(f"migration_days is {self.migration_days}; it must be at least 0")
        if self.num_segments not in (0, *range(2, 1000)):
            raise ValueError(f"num_segments is {self.num_segments}; give 0 to choose, or at least 2")
        if not 2 <= self.min_segments <= self.max_segments:
            raise ValueError(
                f"min_segments is {self.min_segments} and max_segments {self.max_segments}; "
                "they must be at least 2 and in this order"
            )
