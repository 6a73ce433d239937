"""Where results are written, and which files may be replaced."""
