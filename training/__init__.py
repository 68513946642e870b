"""Everything that learns: data, profiles, recommendations, language, and their export."""

if __name__ == "training":  # imported by its old name, from a checkout
    from shopsight.old_names import provide

    provide(__name__)

# Says how idle threads wait, before a library with threads of its own is loaded.
from shopsight import kernels  # noqa: F401
