"""Data: the bytes of a dataset, the columns that they hold, and what they are known by."""
