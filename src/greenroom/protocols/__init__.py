"""Other servers' protocols: their bodies made into rows, their replies written; no HTTP."""
