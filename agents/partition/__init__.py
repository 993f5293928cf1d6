"""Where a network can be cut in two, what its layers cost, and how to share them out over nodes."""
