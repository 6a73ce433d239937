"""Prepared images on disk: made once by worker processes, kept, and shared by all runs."""
