"""Planning: the problem, its blocks, objectives, solving and the plan."""
