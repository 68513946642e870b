"""Reference implementation of every operation in float64; imports NumPy alone, so it runs beside Triton."""
