"""Monitoring: what is asked and answered now, held against what a version was trained on.

It reads the prediction log and the version's own reference, and returns findings
(:mod:`greenroom.findings`): drift of data and of predictions, live performance, a label-free
estimate of it. From findings come reports and alerts. It never trains or promotes by itself, and
nothing of it runs in a worker.
"""
