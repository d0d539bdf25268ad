"""Says that it runs, and then only waits; needs no torch."""

import time

print("ready", flush=True)
while True:
    time.sleep(0.05)
