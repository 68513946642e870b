"""The report page for marketers."""
