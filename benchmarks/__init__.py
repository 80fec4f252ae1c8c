"""What the platform costs, measured against the bare operation that it builds on."""
