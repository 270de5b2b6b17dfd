"""The ingredients of simulated stacks: cells, and what is in them."""
