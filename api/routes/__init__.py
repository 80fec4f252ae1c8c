"""The routes, one file a subject; thin over the store."""
