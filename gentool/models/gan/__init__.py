"""Generative adversarial networks: the model, its losses, penalties and augmentation."""
