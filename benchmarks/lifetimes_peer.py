"""Runs lifetimes in an environment of its own; reads and writes plain arrays, imports nothing of ours.

python lifetimes_peer.py histories.npz out.npz horizon
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np


def main(given: str, out: str, horizon: float) -> None:
    """Fit both models and forecast every customer; keeps seconds, parameters and expected purchases."""
    from lifetimes import BetaGeoFitter, GammaGammaFitter  # type: ignore[import-not-found]

    arrays: dict[str, Any] = dict(np.load(given))
    began = time.perf_counter()
    buying = BetaGeoFitter()
    buying.fit(arrays["frequency"], arrays["recency"], arrays["T"])
    spending = GammaGammaFitter()
    priced = arrays["num_priced"] > 0
    spending.fit(arrays["num_priced"][priced], arrays["monetary_value"][priced])
    fitted = time.perf_counter()
    purchases = buying.conditional_expected_number_of_purchases_up_to_time(
        horizon, arrays["frequency"], arrays["recency"], arrays["T"]
    )
    alive = buying.conditional_probability_alive(arrays["frequency"], arrays["recency"], arrays["T"])
    spend = spending.conditional_expected_average_profit(arrays["num_priced"], arrays["monetary_value"])
    np.savez(
        out,
        seconds=np.array([fitted - began, time.perf_counter() - fitted]),
        parameters=np.array(buying.params_.values),
        purchases=np.asarray(purchases),
        alive=np.asarray(alive),
        spend=np.asarray(spend),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
