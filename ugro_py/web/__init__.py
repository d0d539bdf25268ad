"""The web dashboard: pages over the same application, store and rights as the agent's API."""
