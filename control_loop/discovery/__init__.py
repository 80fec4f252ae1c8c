"""Finding devices in the field: what is found waits as a proposal until somebody approves it."""
