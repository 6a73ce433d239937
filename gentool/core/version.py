"""The version of gentool, which is stored in model files and recipes."""

__version__ = "0.1.0"
