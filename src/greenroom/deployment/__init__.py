"""Deployment: which version each route is to serve, and its files brought to this machine."""
