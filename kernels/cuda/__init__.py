"""The hot loops in CUDA C++, compiled at run time for the GPU at hand; each module has its CPU twin's functions."""
