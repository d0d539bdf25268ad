"""What can be asked of the agent, a module per topic. Each has a `router`."""
