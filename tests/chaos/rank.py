"""A rank of the chaos tests: numbers its lines, keeps checkpoints, and notes outside UGRO what it has written.

`rank.py STEPS CHECKPOINT_EVERY SECONDS_PER_STEP TRUTH_FOLDER`; needs no torch.
"""

import json
import os
import sys
import time
from pathlib import Path

steps, every, seconds, truth = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
rank, attempt, job = int(os.environ["RANK"]), os.environ["UGRO_ATTEMPT"], os.environ["UGRO_JOB_ID"]
resume = os.environ["UGRO_RESUME_FROM"]
done = int(Path(resume).read_text()) if resume else 0
print(f"rank {rank} attempt {attempt} begins at step {done + 1}", flush=True)
truth.mkdir(parents=True, exist_ok=True)
# One write() a line: a line is there or it is not.
metrics = os.open(os.environ["UGRO_METRICS_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
noted = os.open(truth / f"{job}:{attempt}:{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number, step in enumerate(range(done + 1, steps + 1), 1):
    os.write(metrics, json.dumps({"step": step, "training_loss": 1 / step, "line": number}).encode() + b"\n")
    os.write(noted, f"{number} {step} {time.time()}\n".encode())
    if rank == 0 and step % every == 0:
        path = Path(os.environ["UGRO_CHECKPOINT_DIR"]) / f"step_{step:06d}.pt"
        path.with_name(f".{path.name}.new").write_text(str(step))
        path.with_name(f".{path.name}.new").replace(path)
        manifest = {"step": step, "complete": True, "size": path.stat().st_size}
        path.with_name(f".{path.name}.json.new").write_text(json.dumps(manifest))
        path.with_name(f".{path.name}.json.new").replace(path.with_name(path.name + ".json"))
    time.sleep(seconds)
print(f"rank {rank} attempt {attempt} is done", flush=True)
