"""Alerts: which events matter, who is told, and when it is over."""
