"""Writing of results, and the rules for which existing files may be replaced."""
