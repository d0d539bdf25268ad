"""Recovery: whether a failed job is tried again, from which checkpoint, on which nodes, and how that is made quick."""
