"""Versions swapped under load: what fails, what is answered wrongly, and what memory it costs.

``__main__`` runs it, ``served`` is the server's process, ``callers`` are the clients.
"""
