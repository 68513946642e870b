"""Known exporters, by the columns that they write, and how they always write dates and numbers."""

from __future__ import annotations

from collections.abc import Iterable

from training.data.conventions import Convention

_MONTH_FIRST = Convention(day_first=False, decimal=".")
# Columns that only one exporter's files have together, by its name.
_SIGNS: dict[str, tuple[str, ...]] = {
    "Etsy sold order items": ("Sale Date", "Listing ID", "Transaction ID", "Order ID", "Buyer"),
    "Etsy sold orders": ("Sale Date", "Order ID", "Buyer User ID", "Number of Items", "Order Net"),
    "Shopify orders": ("Name", "Financial Status", "Lineitem quantity", "Lineitem name", "Created at"),
}
_CONVENTIONS = {
    "Etsy sold order items": _MONTH_FIRST,
    "Etsy sold orders": _MONTH_FIRST,
    "Shopify orders": Convention(day_first=True, decimal="."),  # its dates are ISO 8601
}


def exporter_of(header: Iterable[str]) -> str | None:
    """The name of the exporter whose columns a header has, or None."""
    have = {name.strip().lower() for name in header}
    return next((name for name, signs in _SIGNS.items() if have >= {sign.lower() for sign in signs}), None)


def convention_of(header: Iterable[str]) -> Convention | None:
    """How the exporter that writes this header writes dates and numbers; None for one that is not known."""
    return _CONVENTIONS.get(exporter_of(header) or "")
