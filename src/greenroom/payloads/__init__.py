"""Payloads: bodies made into rows, answers into bodies, and everything that is wrong with them."""
