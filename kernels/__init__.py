"""The hot loops of Shopsight: one public function per operation, a body per backend."""

if __name__ == "kernels":  # imported by its old name, from a checkout
    from shopsight.old_names import provide

    provide(__name__)

from shopsight.kernels.threads import set_passive_waiting

set_passive_waiting()  # before a library that starts threads (NumPy, torch) is loaded
