"""Trainings as Ray jobs: launched, resumed, searched over, and sized before a cluster is rented."""
