"""Everything that learns: data, profiles, recommendations, language, and their export."""

from shopsight import kernels  # noqa: F401 - says how idle threads wait, before a library with threads of its own is loaded
