"""Is a node worth it? The network measured pair by pair, and a step predicted without each node."""
