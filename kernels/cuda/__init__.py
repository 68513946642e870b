"""The hot loops in CUDA C++, compiled when first used; modules are named as their CPU twins."""
