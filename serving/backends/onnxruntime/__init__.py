"""A stand-in for Triton's native onnxruntime backend, for servers that lack it."""
