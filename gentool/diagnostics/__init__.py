"""What this machine can do, and whether its device computes rightly."""
