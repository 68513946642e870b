"""Evaluation that the families share: ranking figures, intervals, baselines, planted truth against found."""
