"""Raw files that nobody has described: their kind, their columns, a first sources file."""
