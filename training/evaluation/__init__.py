"""How well something works: ranking figures, intervals, baselines, and planted truth against found."""
