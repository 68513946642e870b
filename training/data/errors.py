"""The error of reading a shop's raw data."""


class IngestError(ValueError):
    """Raw data or its sources file cannot be read; the message says what, where, and the remedy."""
