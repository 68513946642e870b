"""Triton backends of ours, loaded by the server's own Python."""
