"""The real-time service: protocol drivers, process image, control rules, limits and dispatch."""
