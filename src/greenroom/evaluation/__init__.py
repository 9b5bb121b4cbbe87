"""Evaluation: predictions, how good they are, and the evidence that travels with a version."""
