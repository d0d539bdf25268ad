"""What UGRO costs, measured against the same work done by hand on the lab: `python -m benchmarks` (`make bench`)."""
