"""A torchrun program that prints the time and measures a step, twice a second, for as long as it is told."""

import json
import os
import sys
import time
from pathlib import Path

end = time.time() + float(sys.argv[1])
step = 0
while time.time() < end:
    step += 1
    print(f"now {time.time():.6f}", flush=True)
    with Path(os.environ["UGRO_METRICS_FILE"]).open("a", encoding="ascii") as file:
        file.write(json.dumps({"step": step, "training_loss": 1 / step, "gpu_util": 50.0 + step % 7}) + "\n")
    time.sleep(0.5)
