"""A plant to talk to: physics and real protocol servers."""
