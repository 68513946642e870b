"""Experiments: what an A/B test shows, with its interval and the checks that it must pass."""
