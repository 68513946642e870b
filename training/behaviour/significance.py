"""Whether two things meet more often than by chance, and how many of such findings are false."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammainc

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_NEGLIGIBLE = 1e-16  # of the sum so far


def more_often_than_chance(together: Int64, first: Int64, second: Int64, total: int) -> Float64:
    """Return the one-sided p values of Fisher's exact test, float64 [n]: P(X >= together).

    X is hypergeometric: the baskets with both, if `first` and `second` of `total` baskets were drawn at
    random. together, first, second: int64 [n]. 1 where `together` is not above the mean. The sum runs over
    all pairs at once; scipy.stats.hypergeom gives the same values one by one.
    """
    p_values = np.ones(len(together))
    # At or below the mean a p value says nothing in favour of the pair: it is at least about a half.
    above = together > np.asarray(first, dtype=np.float64) * second / total
    p_values[above] = _upper_tail(together[above], first[above], second[above], total)
    return p_values


def _upper_tail(together: Int64, first: Int64, second: Int64, total: int) -> Float64:
    """Sum P(X = k) for k from `together`, above the mean, where the terms only fall."""
    k, a, b = (x.astype(np.float64) for x in (together, first, second))
    whole: Float64 = np.full(k.size, float(total))
    term = np.exp(_log_choose(b, k) + _log_choose(whole - b, a - k) - _log_choose(whole, a))
    tail = term.copy()
    going = np.flatnonzero(term > 0)
    while going.size:
        j, x, y = k[going], a[going], b[going]
        term[going] *= (x - j) * (y - j) / ((j + 1) * (total - x - y + j + 1))
        k[going] += 1
        tail[going] += term[going]
        going = going[term[going] > _NEGLIGIBLE * tail[going]]
    return np.minimum(tail, 1.0)


def more_often_than_sizes_explain(
    together: Int64, first: Int64, second: Int64, sizes: Int64
) -> tuple[Float64, Float64]:
    """Return (expected, p values), float64 [n] each, where items fall into baskets by the baskets' sizes.

    Large baskets hold many pairs, so that under this chance items meet more often than if all baskets were
    alike. expected: baskets with both when every item takes its places at random among all places (the
    configuration model of a graph with given degrees). p value: P(X >= together) for a Poisson X of that
    mean, which is above that of the sum over baskets. together, first, second: int64 [n]. sizes: int64
    [baskets], the items in each, of the same items that the pairs are made of.
    """
    places, wide = float(sizes.sum()), sizes.astype(np.float64)
    share = float((wide * (wide - 1)).sum()) / max(places * (places - 1), 1.0)
    expected: Float64 = first.astype(np.float64) * second * share
    p_values: Float64 = np.where(expected > 0, gammainc(together, np.maximum(expected, 1e-300)), 1.0)
    return expected, p_values


def false_discovery_rates(p_values: Float64, num_tests: int) -> Float64:
    """Return the q values of the Benjamini-Hochberg procedure (1995), float64 [n].

    Of the findings with a q value of at most .05, at most 5 % are false on average, for independent or
    positively dependent tests. num_tests: all tests that were made, at least n; p values that are not given
    count as 1, so that leaving tests out never makes the others look better.
    """
    order = np.argsort(p_values)
    scaled = p_values[order] * num_tests / np.arange(1, p_values.size + 1)
    q_values = np.empty(p_values.size)
    q_values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values


def _log_choose(n: Float64, k: Float64) -> Float64:
    chosen: Float64 = -betaln(k + 1, n - k + 1) - np.log(n + 1)
    return chosen
