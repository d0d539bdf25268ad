"""The agent's HTTP API: the application, the doors it is reached by, and the client of `ugro`."""
