"""Report on this machine, and a check that its device computes correctly."""
