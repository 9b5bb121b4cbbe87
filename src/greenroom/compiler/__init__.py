"""The compiler: a fitted estimator as an ONNX graph, and the proof that it answers the same.

Compiling a version that is registered is :mod:`greenroom.compilation`'s business.
"""
