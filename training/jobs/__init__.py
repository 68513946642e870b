"""Trainings as Ray jobs: launch, resume, hyperparameter search, and sizing of clusters."""
