"""The kernels' benchmarks on a GPU: cases of its size, peers that run there, floors measured there."""
