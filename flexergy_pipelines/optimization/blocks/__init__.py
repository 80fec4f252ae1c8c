"""One file a block: each contributes variables, constraints, cost terms and the meaning of each to the board."""
