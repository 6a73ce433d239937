"""Scores of models and of sets of images, the cheap score during a training run, and outliers."""
