"""Metrics: pure functions of features (N, D), or of pixels, and the feature extractors.

No metric here knows a model, a file or the command line. ``frechet`` and ``kernel`` compare
distributions, ``neighbours`` asks how samples lie among the reference, ``pixels`` compares
image with image, ``extractors`` turns images into features.
"""
