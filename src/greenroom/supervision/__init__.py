"""Supervision: the server's first process, the workers it keeps, and how they get new versions."""
