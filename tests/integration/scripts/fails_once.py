"""Counts steps and keeps each as a checkpoint; in the first attempt rank 1 fails after step 3. Needs no torch."""

import json
import os
import sys
import time
from pathlib import Path

rank, attempt = int(os.environ["RANK"]), int(os.environ["UGRO_ATTEMPT"])
resume = os.environ["UGRO_RESUME_FROM"]
done = int(Path(resume).read_text()) if resume else 0
print(f"rank {rank} attempt {attempt} begins at step {done + 1}", flush=True)
for step in range(done + 1, done + 4):
    print(f"step {step} loss={5 - step / 10:.2f}", flush=True)
    if rank == 0:
        path = Path(os.environ["UGRO_CHECKPOINT_DIR"]) / f"step_{step:06d}.pt"
        path.write_text(str(step))
        manifest = {"step": step, "complete": True, "size": path.stat().st_size}
        path.with_name(path.name + ".json").write_text(json.dumps(manifest))
if attempt == 1:
    if rank == 1:
        time.sleep(float(sys.argv[1]))
        sys.exit(3)
    time.sleep(60)
