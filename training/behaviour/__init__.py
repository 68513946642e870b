"""What customers do: sessions, funnels, cohorts, baskets, the time between purchases, and paths."""
