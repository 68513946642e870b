"""The hot loops of Shopsight: one public function per operation, a body per backend."""

from shopsight.kernels.threads import wait_asleep

wait_asleep()  # before NumPy, torch or any other library with threads of its own is loaded
