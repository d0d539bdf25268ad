"""The agent: one process on the master that keeps the cluster running."""
