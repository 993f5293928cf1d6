"""Where requests come from, what the network, servers and grids do, and what a placement costs."""
