"""Where images come from: folders, archives, built-in sets, torchvision's, the hub's, shards."""
