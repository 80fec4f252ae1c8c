"""The assets, one file a group; each is a few lines around a function of another room."""
