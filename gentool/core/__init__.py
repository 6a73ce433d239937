"""Base of the package: errors, randomness, devices, images, options, atomic files, signals."""
