"""Metrics: pure functions of features (N, D) or of pixels, and the feature extractors.

No metric depends on a model, a result file or the command line. ``frechet`` and ``kernel`` compare
two distributions, ``neighbours`` compares samples with their nearest reference points, ``pixels``
compares two images, ``extractors`` and ``pretrained`` compute features of images.
"""
