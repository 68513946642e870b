"""Slow, obvious float64 truth of every operation; imports NumPy alone, so it also runs beside Triton."""
