"""Versions on disk: what their files say, the store that keeps them, and the estimators in them."""
