"""View models: what a page shows, worked out from frames of the store; nothing here draws or reads."""
