"""Shopsight: an online shop's raw events in, customer insight out of a Triton endpoint."""
