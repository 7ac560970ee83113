#!/usr/bin/env bash
# What a machine with a CUDA device has to show: the same answers as the CPU, and a
# training run to its end. Run from the repository's root.
#
#   scripts/gpu_check.sh [MOIM]        MOIM: the program (default target/release/moim)
#
# Writes to outputs/gpu_check; every figure it prints names the device.
set -euo pipefail
moim=${1:-target/release/moim}
out=outputs/gpu_check
rm -rf "$out"
mkdir -p "$out"

echo "== doctor"
"$moim" doctor

echo "== the demo's evaluation set, answered greedily on both devices"
for device in cpu cuda; do
  "$moim" infer --model data/demo/model --device "$device" --input data/demo/eval.json \
    --instruct data/demo/instruct.json --output "$out/answers_$device.json" \
    --max-completion-length 96 --batch-size 32
done
"$moim" compare "$out/answers_cpu.json" "$out/answers_cuda.json" --labels data/demo/eval.json \
  --encoder data/demo/encoder --layer 4 --fail-on-regression

echo "== twenty steps on the device"
"$moim" --no-ui experiments/demo.toml --set model.device=cuda --set grpo.max_steps=20 \
  --set run.output_dir="$out" --set run.name=train

echo "== seconds and tokens/s of the last steps"
grep '"event":"step"' "$out/demo/train/events.jsonl" | tail -n 3 |
  grep -o '"\(step\|step_time\|tokens_per_second/[a-z]*\)":[0-9.e+-]*'

echo "== memory: predicted against measured"
"$moim" plan experiments/demo.toml --set model.device=cuda --probe
grep -o '"memory/device_peak/[a-z]*":[0-9]*' "$out/demo/train/events.jsonl" | sort | uniq -c | tail -n 2
tail -n 1 "$out/demo/train/system.jsonl"
