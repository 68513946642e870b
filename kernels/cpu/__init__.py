"""The operations on the CPU, compiled by numba; they hold no GIL and start no pool of numba's own."""
