"""Sources of images: folders, archives, built-in and torchvision sets, the hub, and shards."""
