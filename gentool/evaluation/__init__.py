"""Scores of models and of folders of images, the cheap score of a run, and outliers."""
