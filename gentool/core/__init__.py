"""What everything else stands on: errors, randomness, devices, images, options, safe files."""
