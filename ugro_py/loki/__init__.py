"""The logs of running jobs, pushed to Loki."""
