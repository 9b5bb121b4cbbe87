"""The prediction log: from a record in the spool to a row in a table, and to MLflow.

What a worker notes is :mod:`greenroom.inference.inference.prediction_log`'s business,
looking back at it :mod:`greenroom.tracing.tracing`'s.
"""
