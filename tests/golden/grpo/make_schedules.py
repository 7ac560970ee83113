"""Makes schedules.json: learning rates of transformers' schedules.

    python tests/golden/grpo/make_schedules.py

Made with transformers 5.23.0, torch 2.15.0, Python 3.11.

Each case: `name` (as in `lr_scheduler_type`), `warmup_steps`, `total_steps`, and `learning_rates`, where
entry i is the rate that optimiser step i (from 0) uses; the peak is 1e-3. `constant` ignores warm-up.
"""

import sys
from pathlib import Path

import torch
from transformers import get_scheduler

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "model"))
import golden_json  # noqa: E402

PEAK = 1e-3
STEPS = 20


def main():
    cases = []
    for name in ("linear", "cosine", "constant", "constant_with_warmup"):
        for warmup in (0, 5):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
            schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=STEPS)
            rates = []
            for _ in range(STEPS):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                schedule.step()
            cases.append({"name": name, "warmup_steps": warmup, "total_steps": STEPS, "learning_rates": rates})
    golden_json.write(HERE / "schedules.json", {"made_by": "make_schedules.py", "peak": PEAK, "cases": cases}, digits=12)


if __name__ == "__main__":
    main()
