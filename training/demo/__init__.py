"""The demo: a synthetic shop with known truth runs through all steps; the results are compared with it."""
