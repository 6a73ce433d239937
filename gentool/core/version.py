"""The version of gentool, which is stored in the model and state files and in recipes."""

__version__ = "0.1.0"
