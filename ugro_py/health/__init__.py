"""Health of the nodes: probes, states with hysteresis, drains, and what people see of it."""
