"""Makes demo_runs.json, what the monitor of a run's health sees of finished runs of the demo.

    python3 make_demo_runs.py outputs/demo/seed42 outputs/demo/seed7 outputs/demo/seed1234 > demo_runs.json

Each run is `moim --no-ui experiments/demo.toml --set run.seed=N --set run.name=seedN`.
"""

import json
import sys
from pathlib import Path

METRICS = [
    "reward",
    "rewards/exact_match/mean",
    "frac_reward_zero_std",
    "entropy",
    "grad_norm",
    "completions/clipped_ratio",
    "sampling/sampling_logp_difference/mean",
    "tokens_per_second/rollout",
    "tokens_per_second/backward",
]


def short(value):
    return float(f"{value:.4g}")


def lines(run):
    for line in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            yield [short(event[metric]) for metric in METRICS]
        if event["event"] == "score":
            interval = [short(end) for end in event["intervals"]["em"]]
            yield {"checkpoint": event["checkpoint"], "em": short(event["em"]), "intervals": {"em": interval}}


def main():
    runs = []
    for run in map(Path, sys.argv[1:]):
        rows = ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines(run))
        runs.append(f'"{run.name}":[\n{rows}]')
    print('{"metrics":' + json.dumps(METRICS) + ',\n"runs":{\n' + ",\n".join(runs) + "}}")


main()
