"""Our Triton backends, loaded by the server's own Python."""
