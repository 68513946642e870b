"""The operations in CUDA C++, compiled at first use; modules are named as those of kernels/cpu."""
