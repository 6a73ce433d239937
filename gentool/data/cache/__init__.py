"""Prepared images on disk: worker processes make them once, and all runs share them."""
