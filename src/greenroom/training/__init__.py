"""Training: from an app's data to a registered version, so that it can be done again."""
