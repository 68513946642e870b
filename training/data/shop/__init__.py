"""A synthetic shop with planted truth: raw files as real shops have them, and what is true about them."""

from shopsight.training.data.shop.make import make_shop
from shopsight.training.data.shop.spec import ShopSpec, ShopSummary

__all__ = ["ShopSpec", "ShopSummary", "make_shop"]
