"""Promotion: what a selector names is moved, on evidence, by a person's word, or back."""
