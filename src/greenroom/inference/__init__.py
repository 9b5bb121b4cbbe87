"""Inference: versions in memory, and what they answer; no HTTP."""
