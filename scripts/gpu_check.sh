#!/usr/bin/env bash
# Checks a machine with a CUDA device: the same answers as on the CPU, complete trainings, memory as
# planned, and speed. Run from the repository's root.
#
#   scripts/gpu_check.sh [PROGRAM] [PART…]
#
# PROGRAM: moim (default target/release/moim). PART: any of the parts or groups below; without one, all
# of them in at most 25 minutes. Each named part has a little under ten minutes.
#
#   quick:    doctor kernels answers graphs nf4 train
#   measure:  memory reference
#   compare:  compare_1b compare_8b compare_8b_nf4   (python3 with torch, transformers, peft and trl;
#             for nf4 bitsandbytes. PYTHON names another python.)
#
# A part that fails does not stop the others. Logs and numbers: outputs/gpu_check/PART.log and .json;
# the table at the end is also in outputs/gpu_check/summary.md, and later calls append to it. Random models
# of up to 16 GB stay in outputs/gpu_check/models. The exit code is the number of parts that failed.
set -uo pipefail

out=outputs/gpu_check
models=$out/models
python=${PYTHON:-python3}
parts=(doctor kernels answers graphs nf4 train memory reference compare_1b compare_8b compare_8b_nf4)

# The limit of a part in seconds if all are run; together 25 minutes.
declare -A limits=(
  [doctor]=20 [kernels]=80 [answers]=80 [graphs]=80 [nf4]=110 [train]=80 [memory]=240 [reference]=200
  [compare_1b]=150 [compare_8b]=230 [compare_8b_nf4]=230
)
# The limit of a named part: a little under ten minutes, or GPU_CHECK_LIMIT.
named_limit=${GPU_CHECK_LIMIT:-580}

# ---- quick

doctor() {
  "$moim" doctor
  nvidia-smi || true
}

# Each kernel against its reference on the CPU, with timings.
kernels() {
  "$moim" doctor --kernels --time
}

# The demo's evaluation set, answered greedily on both devices.
answers() {
  answers_on_both
}

answers_on_both() {
  for device in cpu cuda; do
    "$moim" infer --model data/demo/model --device "$device" --input data/demo/eval.json \
      --instruct data/demo/instruct.json --output "$scratch/answers_$device.json" \
      --max-completion-length 96 --batch-size 32 "$@"
  done
  "$moim" compare "$scratch/answers_cpu.json" "$scratch/answers_cuda.json" --labels data/demo/eval.json \
    --encoder data/demo/encoder --layer 4 --fail-on-regression
}

# Recorded and replayed decoding steps, compared with the same steps launched one by one: the same bytes, at
# another speed. The model's end tokens end some answers early, so rows leave on the way.
graphs() {
  local infer=("$moim" infer --model data/demo/model --device cuda --input data/demo/eval.json
    --instruct data/demo/instruct.json --max-completion-length 192 --batch-size 8 --temperature 1 --logprobs)
  "${infer[@]}" --output "$scratch/recorded.json"
  MOIM_CUDA_GRAPHS=0 "${infer[@]}" --output "$scratch/launched.json"
  cmp "$scratch/recorded.json" "$scratch/launched.json" && echo 'the same answers and log-probabilities'
}

# A base in 4 bits: the same greedy answers on both devices, and ten steps on the card.
nf4() {
  local four_bit=(--set quantization.load_in_4bit=true --set quantization.bnb_4bit_use_double_quant=true)
  answers_on_both --load-in-4bit --double-quant
  "$moim" --no-ui experiments/demo.toml "${four_bit[@]}" --set model.device=cuda \
    --set grpo.max_steps=10 --set run.output_dir="$scratch" --set run.name=bf16
  last_steps "$scratch/demo/bf16"
}

# Twenty steps of the demo in the card's own type.
train() {
  "$moim" --no-ui experiments/demo.toml --set model.device=cuda --set grpo.max_steps=20 \
    --set run.output_dir="$scratch" --set run.name=train
  last_steps "$scratch/demo/train"
  grep -o '"memory/device_peak/[a-z]*":[0-9]*' "$scratch/demo/train/events.jsonl" | sort | uniq -c | tail -n 2 || true
  tail -n 1 "$scratch/demo/train/system.jsonl"
}

last_steps() {
  grep '"event":"step"' "$1/events.jsonl" | tail -n 3 |
    grep -o '"\(step\|step_time\|reward\|tokens_per_second/[a-z]*\)":[0-9.e+-]*' | paste -sd ' '
}

# ---- measure

# A folder with only a configuration, for random weights: NAME HIDDEN INNER LAYERS HEADS KV VOCABULARY TIED.
drawn() {
  mkdir -p "$models/$1"
  local head=128
  [ "$2" -lt 4096 ] && head=64
  cat >"$models/$1/config.json" <<JSON
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": $2, "intermediate_size": $3,
 "num_hidden_layers": $4, "num_attention_heads": $5, "num_key_value_heads": $6, "head_dim": $head,
 "vocab_size": $7, "tie_word_embeddings": $8, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05,
 "rope_theta": 500000.0, "rope_scaling": null, "hidden_act": "silu", "initializer_range": 0.02,
 "attention_bias": false, "mlp_bias": false, "bos_token_id": 0, "eos_token_id": 2}
JSON
}

# An experiment with only its sizes: FILE MODEL PROMPT COMPLETION B G [LINE…]
sizes() {
  local file=$1
  cat >"$file" <<TOML
model.path = "$models/$2"
model.device = "cuda"
data.train = "none.json"
data.eval = "none.json"
data.max_prompt_length = $3
rollout.max_completion_length = $4
grpo.per_device_train_batch_size = $5
grpo.num_generations = $6
reward.formula = "format"
TOML
  shift 6
  if [ $# -gt 0 ]; then printf '%s\n' "$@" >>"$file"; fi
}

# Ten configurations: predicted and measured memory, and time.
memory() {
  local four='quantization.load_in_4bit = true' double='quantization.bnb_4bit_use_double_quant = true'
  local wide='lora.target_modules = "all-linear"'
  drawn 135m 576 1536 30 9 3 49152 true
  drawn 1b 2048 8192 16 32 8 128256 true
  drawn 8b 4096 14336 32 32 8 128256 false
  local failed=0
  printf '| configuration | phase | predicted | measured | predicted / measured | seconds | tokens/s |\n|---|---|---|---|---|---|---|\n' >"$scratch/table.md"
  probe() {
    local name=$1
    shift
    sizes "$scratch/experiment.toml" "$@"
    echo "== $name"
    if ! "$moim" plan "$scratch/experiment.toml" --probe --probe-steps 2 | tee "$scratch/plan.txt"; then
      failed=1
      return
    fi
    # Sizes are two words each: 1.23 GiB.
    sed -n '/^probe on/,$p' "$scratch/plan.txt" | awk -v name="$name" '
      $1 == "rollout" || $1 == "training" {
        printf "| %s | %s | %s %s | %s %s | %s | %s | %s |\n", name, $1, $2, $3, $4, $5, $6, $7, $9
      }' >>"$scratch/table.md"
  }
  #     name                    model prompt completion B G
  probe '135m f32'              135m 256 128 8 8 'model.dtype = "float32"'
  probe '135m bf16'             135m 256 128 8 8
  probe '135m bf16, B = 64'     135m 256 128 64 8
  probe '1b bf16'               1b 512 128 8 8
  probe '1b bf16, 1024 + 512'   1b 1024 512 8 8
  probe '1b bf16, G = B = 32'   1b 512 128 32 32
  probe '1b bf16, r = 64, all'  1b 512 128 8 8 'lora.r = 64' "$wide"
  probe '1b nf4'                1b 512 128 8 8 "$four" "$double"
  probe '8b bf16'               8b 512 96 8 8
  probe '8b nf4'                8b 512 96 8 8 "$four" "$double"
  cat "$scratch/table.md"
  return $failed
}

# 11.5 billion parameters in 4 bits, which should fit on one card of 24 GB.
reference() {
  drawn midm-11b 4096 14336 48 32 8 131392 false
  sizes "$scratch/reference.toml" midm-11b 512 1024 8 8 'lora.r = 64' 'lora.lora_alpha = 16' \
    'lora.target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]' 'quantization.load_in_4bit = true' \
    'quantization.bnb_4bit_quant_type = "nf4"' 'quantization.bnb_4bit_use_double_quant = true'
  "$moim" plan "$scratch/reference.toml" --gpu-memory 24GiB --probe --probe-steps 2
}

# ---- compare

compare() {
  if ! "$python" -c 'import trl, torch, transformers, peft; assert torch.cuda.is_available()'; then
    echo "$python has no trl, torch, transformers or peft, or torch finds no card: only moim is run"
    set -- "$@" --sides moim
  fi
  "$python" benches/compare_trl.py --moim "$moim" --models "$models" --steps "$steps" --rounds "$rounds" \
    --json "$out/$part.json" "$@"
}

compare_1b() { compare --cases llama-1b-bf16; }
compare_8b() { compare --cases llama-8b-bf16; }
compare_8b_nf4() { compare --cases llama-8b-nf4; }

# ---- running them

device_name() {
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | head -n 1 ||
    echo 'no card'
}

# A part runs in its own process, so that it can be stopped at its limit and `set -e` applies to it.
if [ "${1:-}" = --inside ]; then
  moim=$2 part=$3 rounds=$4 steps=$5
  scratch=$out/$part
  rm -rf "$scratch"
  mkdir -p "$scratch" "$models"
  set -e
  "$part"
  exit 0
fi

moim=target/release/moim
is_part() { case " ${parts[*]} quick measure compare " in *" $1 "*) true ;; *) false ;; esac; }
if [ $# -gt 0 ] && ! is_part "$1"; then
  moim=$1
  shift
fi
if [ ! -x "$moim" ]; then
  echo "$moim does not exist; build it with: cargo build --release" >&2
  exit 2
fi
case $moim in /*) ;; *) moim=$PWD/$moim ;; esac
chosen=()
for word in "$@"; do
  case $word in
    quick) chosen+=(doctor kernels answers graphs nf4 train) ;;
    measure) chosen+=(memory reference) ;;
    compare) chosen+=(compare_1b compare_8b compare_8b_nf4) ;;
    *)
      if ! is_part "$word"; then
        echo "no such part: $word; the parts are ${parts[*]}, and the groups quick, measure, compare" >&2
        exit 2
      fi
      chosen+=("$word")
      ;;
  esac
done
# Few steps if all parts share 25 minutes.
rounds=2 steps=3 is_whole=false
if [ ${#chosen[@]} -eq 0 ]; then
  chosen=("${parts[@]}") rounds=1 steps=2 is_whole=true
fi

mkdir -p "$out"
summary=$out/summary.md
device=$(device_name)
table=$(printf '\n%s, %s, %s\n\n| part | result | seconds |\n|---|---|---|' \
  "$(date -u +%Y-%m-%dT%H:%MZ)" "${device:-no card}" "$("$moim" --version)")
failures=0
begin=$SECONDS
for part in "${chosen[@]}"; do
  limit=$named_limit
  if $is_whole; then limit=${limits[$part]}; fi
  # Several named parts share one call.
  left=$((named_limit - (SECONDS - begin)))
  if ! $is_whole && [ "$left" -lt "$limit" ]; then limit=$((left > 10 ? left : 10)); fi
  echo "==== $part (at most $limit s)"
  start=$SECONDS
  timeout --kill-after=10 "$limit" bash "$0" --inside "$moim" "$part" "$rounds" "$steps" 2>&1 | tee "$out/$part.log"
  code=${PIPESTATUS[0]}
  case $code in
    0) result='ok' ;;
    124 | 137) result="stopped at its limit of $limit s" ;;
    *) result="failed ($code)" ;;
  esac
  [ "$code" -eq 0 ] || failures=$((failures + 1))
  table+=$(printf '\n| %s | %s | %s |' "$part" "$result" $((SECONDS - start)))
done
table+=$(printf '\n| together | %s failed | %s |' "$failures" $((SECONDS - begin)))
printf '%s\n' "$table" | tee -a "$summary"
exit "$failures"
