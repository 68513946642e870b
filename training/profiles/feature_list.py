"""The list of features in served order, each with the words that describe it to a marketer."""

from __future__ import annotations

from collections.abc import Iterable

from shopsight.training.profiles.spec import OTHER, Feature, Unit, recent

# Features of how much a customer does, in contrast to what and how; the value model covers the first.
VOLUME_GROUPS = frozenset({"purchases", "activity", "tenure", "rhythm", "sessions", "opinion"})
DETAIL_GROUPS = frozenset({"price_detail", "habit"})  # details of what other groups measure already
TASTE_GROUPS = frozenset({"taste", "channel"})
TIME_GROUPS = frozenset({"time"})
DAYPARTS = (
    ("night", "at night", "0 to 4 h", "Night-time"),
    ("early", "early in the morning", "4 to 8 h", "Early-morning"),
    ("morning", "in the morning", "8 to 12 h", "Morning"),
    ("midday", "at midday", "12 to 16 h", "Midday"),
    ("afternoon", "in the late afternoon", "16 to 20 h", "Late-afternoon"),
    ("evening", "in the evening", "20 to 24 h", "Evening"),
)
# Words for the usual channels: after a verb, and in the name of a segment.
_CHANNELS = {
    "web": ("the web shop", "on the web"),
    "app": ("the app", "in the app"),
    "store": ("the stores", "in the stores"),
    "support": ("support", "who ask support"),
    "reviews": ("reviews", "who write reviews"),
    "social": ("social media", "on social media"),
    OTHER: ("other channels", "on other channels"),
}


def shop_features(
    channels: Iterable[str],
    categories: Iterable[str],
    half_lives_days: Iterable[float],
    intents: Iterable[str] = (),
) -> tuple[Feature, ...]:
    """Return the features of a shop with these channels, categories and intents of messages."""
    return (
        *_purchases(tuple(half_lives_days)),
        *_visits(tuple(half_lives_days)),
        *_conversion(),
        *_prices(),
        *_opinions(intents),
        *_times(),
        *(_channel(name) for name in (*channels, OTHER)),
        *(feature for name in (*categories, OTHER) for feature in _taste(name)),
        *_variety(),
    )


def _purchases(half_lives_days: tuple[float, ...]) -> list[Feature]:
    return [
        _days("recency_days", "purchases", "recency", "days since the last purchase",
              "bought long ago", "bought lately", "before:Lapsed", "before:Recent"),
        _count("frequency", "purchases", "amount", "orders", "order often", "order rarely",
               "who:frequent buyers", "who:occasional buyers"),
        Feature("monetary_mean", "purchases", "order size", "log1p", "money", "spent per order",
                "spend much per order", "spend little per order", "after:with big orders",
                "after:with small orders"),
        Feature("monetary_total", "purchases", "amount", "log1p", "money", "spent in all",
                "spend much", "spend little", "who:big spenders", "who:small spenders"),
        *(_count(recent("recent_purchases", days), "purchases", "recency",
                 f"lines bought lately, fading over {days:g} days", "buy much lately",
                 "buy little lately", "before:Active", "before:Lapsed") for days in half_lives_days),
        _count("num_purchases", "purchases", "amount", "lines bought", "buy many things", "buy few things",
               "who:heavy buyers", "who:light buyers"),
        _number("basket_size", "purchases", "order size", "lines per order", "fill big baskets",
                "fill small baskets", "after:with big baskets", "after:with small baskets"),
        _days("order_gap_days", "rhythm", "rhythm", "days from one order to the next",
              "wait long between orders", "order again soon", "after:who order seldom",
              "after:who order again soon"),
        _number("order_gap_variation", "rhythm", "regularity", "unevenness of the time between orders",
                "order in bursts", "order at even intervals", "after:who order in bursts", "before:Regular"),
    ]  # fmt: skip


def _visits(half_lives_days: tuple[float, ...]) -> list[Feature]:
    return [
        _days("tenure_days", "tenure", "tenure", "days since first seen", "have been here for long",
              "came lately", "before:Long-standing", "before:New"),
        _days("inactive_days", "activity", "recency", "days since last seen", "have not been seen for long",
              "were here lately", "before:Lapsed", "before:Active"),
        _count("num_events", "activity", "amount", "events", "are very active", "are seldom active",
               "before:Busy", "before:Quiet"),
        _count("num_views", "activity", "browsing", "items looked at", "look at a lot", "look at little",
               "who:browsers", "after:who browse little"),
        *(_count(recent("recent_views", days), "activity", "browsing",
                 f"items looked at lately, fading over {days:g} days", "browse a lot lately",
                 "browse little lately", "who:browsers", "after:who browse little")
          for days in half_lives_days),
        _count("num_sessions", "activity", "amount", "visits", "visit often", "visit rarely",
               "before:Frequent", "before:Occasional"),
        _days("session_gap_days", "rhythm", "rhythm", "days from one visit to the next",
              "stay away for long between visits", "come back soon", "before:Occasional", "before:Frequent"),
        _number("session_events", "sessions", "visit", "events per visit", "do much in a visit",
                "do little in a visit", "after:with long visits", "after:with short visits"),
        _number("session_minutes", "sessions", "visit", "minutes per visit", "take their time in a visit",
                "make short visits", "after:with long visits", "after:with short visits"),
        _number("session_items", "sessions", "visit", "different items looked at per visit",
                "compare much in a visit", "look at few items in a visit", "after:who compare much",
                "after:with short visits"),
    ]  # fmt: skip


def _conversion() -> list[Feature]:
    return [
        _share("cart_rate", "conversion", "conversion", "num_views", "items put into the cart per item seen",
               "put much into the cart", "seldom put anything into the cart", "before:Decided",
               "before:Undecided"),
        _share("purchase_rate", "conversion", "conversion", "num_views", "items bought per item seen",
               "buy what they look at", "buy little of what they look at", "before:Decided",
               "before:Undecided"),
        _share("session_conversion", "conversion", "conversion", "num_sessions", "visits with a purchase",
               "seldom leave without buying", "often leave without buying", "before:Decided",
               "before:Undecided"),
        _share("return_rate", "returns", "returns", "num_purchases", "lines sent back", "send much back",
               "send little back", "after:who send much back", "after:who send little back"),
    ]  # fmt: skip


def _prices() -> list[Feature]:
    return [
        _share("discount_share", "price", "discount", "num_purchases", "lines bought at a discount",
               "buy at a discount", "seldom buy at a discount", "who:bargain hunters"),
        Feature("discount_lift", "price_detail", "discount", "identity", "share",
                "discounted lines beyond what others had who bought the same items",
                "wait for discounts", "seldom wait for discounts", "who:bargain hunters"),
        Feature("discount_depth", "price_detail", "discount depth", "identity", "share",
                "taken off the price when discounted", "wait for big discounts", "take small discounts"),
        _number("discount_quantity", "price_detail", "discount response",
                "pieces per discounted line for each piece at full price",
                "buy more pieces when there is a discount", "buy fewer pieces when there is a discount"),
        _share("price_percentile", "price", "price", "num_purchases",
               "price rank within the category of what they buy", "buy the dear ones", "buy the cheap ones",
               "before:Premium", "before:Thrifty", unit="percentile"),
        _number("price_to_median", "price_detail", "price", "price against the middle price of the category",
                "pay more than usual in the category", "pay less than usual in the category",
                "before:Premium", "before:Thrifty"),
        _share("viewed_price_percentile", "price", "price", "num_views",
               "price rank within the category of what they look at", "look at the dear ones",
               "look at the cheap ones", "before:Premium", "before:Thrifty", unit="percentile"),
    ]  # fmt: skip


def _opinions(intents: Iterable[str]) -> list[Feature]:
    pleased = ("before:Pleased", "before:Displeased")
    return [
        Feature("rating_mean", "opinion", "opinion", "identity", "number", "stars given", "rate well",
                "rate badly", *pleased),
        Feature("review_sentiment", "opinion", "opinion", "identity", "number",
                "tone of reviews (-1 to 1)", "write kind reviews", "write harsh reviews", *pleased),
        Feature("message_sentiment", "opinion", "mood", "identity", "number",
                "tone of messages (-1 to 1)", "write kindly", "complain", *pleased),
        _count("num_messages", "opinion", "writing", "messages", "write often", "seldom write",
               "after:who write often", ""),
        *(_share(f"intent_share.{name}", "opinion", f"intent {name}", "num_messages",
                 f"messages about {name.replace('_', ' ')}", f"write about {name.replace('_', ' ')}",
                 f"seldom write about {name.replace('_', ' ')}") for name in intents),
    ]  # fmt: skip


def _times() -> list[Feature]:
    return [
        _share("weekend_share", "time", "weekend", "num_events", "activity at weekends",
               "come at weekends", "come on weekdays", "before:Weekend", "before:Weekday"),
        *(_share(f"hour_share.{part}", "time", part, "num_events", f"activity from {hours}",
                 f"come {words}", f"seldom come {words}", f"before:{name}")
          for part, words, hours, name in DAYPARTS),
        _share("hour_evenness", "habit", "hours", "num_events", "spread over the hours of the day",
               "come at any hour", "come at fixed hours", "before:Round-the-clock"),
        _share("weekday_evenness", "habit", "weekdays", "num_events", "spread over the days of the week",
               "come on any day of the week", "come on fixed days of the week"),
    ]  # fmt: skip


def _variety() -> list[Feature]:
    return [
        _share("category_evenness", "habit", "variety", "num_purchases",
               "spread of purchases over the categories", "buy from all categories", "keep to few categories",
               "before:All-round", "before:Single-minded"),
        _share("viewed_category_evenness", "habit", "variety", "num_views",
               "spread of views over the categories", "look at all categories", "look at few categories",
               "before:All-round", "before:Single-minded"),
    ]  # fmt: skip


def _channel(name: str) -> Feature:
    spoken, suffix = _CHANNELS.get(name, (name, f"through {name}"))
    return _share(
        f"channel_share.{name}", "channel", f"channel {name}", "num_events", f"activity in {spoken}",
        f"use {spoken}", f"seldom use {spoken}", f"after:{suffix}",
    )  # fmt: skip


def _taste(name: str) -> tuple[Feature, Feature]:
    # Some shops write FROZEN GROCERY or frozen_grocery.
    plain = (name.capitalize() if name.isupper() else name).replace("_", " ")
    spoken, slot = (plain, f"taste:{plain}") if name != OTHER else ("other things", "")
    topic = f"taste {name}"
    return (
        _share(f"spend_share.{name}", "taste", topic, "num_purchases", f"spending on {spoken}",
               f"buy {spoken}", f"buy little {spoken}", slot),
        _share(f"view_share.{name}", "taste", topic, "num_views", f"views of {spoken}",
               f"look at {spoken}", f"look little at {spoken}", slot),
    )  # fmt: skip


def _days(name: str, group: str, topic: str, label: str, *words: str) -> Feature:
    return Feature(name, group, topic, "log1p", "days", label, *words)


def _count(name: str, group: str, topic: str, label: str, *words: str) -> Feature:
    return Feature(name, group, topic, "log1p", "count", label, *words)


def _number(name: str, group: str, topic: str, label: str, *words: str) -> Feature:
    return Feature(name, group, topic, "log1p", "number", label, *words)


def _share(
    name: str, group: str, topic: str, support: str, label: str, high: str, low: str,
    name_high: str = "", name_low: str = "", unit: Unit = "share",
) -> Feature:  # fmt: skip
    return Feature(name, group, topic, "share", unit, label, high, low, name_high, name_low, support)
