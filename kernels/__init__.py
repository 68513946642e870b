"""The hot loops of Shopsight: one public function per operation, a body per backend."""

if __name__ == "kernels":  # imported by its old name, from a checkout
    from shopsight.old_names import provide

    provide(__name__)

from shopsight.kernels.threads import wait_asleep

wait_asleep()  # before NumPy, torch or any other library with threads of its own is loaded
