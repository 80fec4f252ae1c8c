"""Study mode: a case on paper, from a file to schedule, cost, wear and comparison; needs neither store nor site."""
