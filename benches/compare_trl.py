#!/usr/bin/env python3
"""The same GRPO step in TRL and in moim on the same machine, in turns.

    python benches/compare_trl.py --cases smollm2-cpu --moim target/release/moim

Needs torch, transformers 5.23, peft and TRL 1.16; bitsandbytes for the 4-bit cases. Run from anywhere.

What is the same on both sides: the model's folder (weights drawn once by transformers and saved, so both load
the same bytes), the prompts (the same token ids, all of the case's length), B, G and A (B counts completions),
completions of exactly the case's length (no token ends one), LoRA's rank, alpha and layers, temperature 1,
beta 0, the loss (dapo, each side's default), and the type: f32 on the CPU; on a GPU bf16, or NF4 with double
quantisation and bf16 to compute in. TRL generates with transformers (no vLLM), attends with PyTorch's SDPA, and
checkpoints gradients unless --no-checkpointing is given. Rewards alternate between 0 and 1, so no group is
skipped; moim's advantages alternate between +1 and -1.

What is counted where. Each side runs in a process of its own, --rounds times, in turns: TRL, moim, TRL, moim.
Each process takes --steps steps (default 3); the first warms up and is not counted; of the others the median is
taken, and of the rounds' medians the median again. Loading is not counted. The device is waited for at both
ends of a phase.

  rollout   TRL: `_generate_single_turn`, that is padding, `generate`, and its answer as lists.
            moim: `rollout::generate`.
  training  TRL: from `on_step_begin` to `on_step_end` less `_generate_and_score_completions`: log-probabilities,
            loss, backward, clipping and the optimizer's step over all micro-batches.
            moim: `Learner::step`, which is the same.
  not counted: rewards, advantages, decoding to text, logging (TRL's are in the JSON as `scoring`).

  tokens/s  completions' tokens over the phase's seconds, on both sides and for both phases, though TRL computes
            a prompt once a completion and moim once a group.
  memory    CPU: the largest resident memory of the process in each phase (VmHWM, reset before each), with all
            that was there before the model: the program and its libraries.
            GPU: TRL `torch.cuda.max_memory_allocated` of each phase; moim what its pools had reserved in each
            phase, which is at least what it had allocated. `device`: how far the card's used memory rose above
            what it was before the process, as the driver tells it, over the whole process, loading included:
            this holds contexts, code and what both sides' allocators keep, and is the one figure taken alike.

A ratio is moim's value over TRL's of the same round, and the median of the rounds: below 1, moim takes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
GIB = 1 << 30
# Names of the Llama configuration in the order of `Case.shape`.
SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


@dataclass(frozen=True)
class Case:
    """One piece of work."""

    shape: tuple[int, ...]
    tied: bool
    device: str
    prompt: int
    completion: int
    generations: int = 8  # G
    batch: int = 8  # B, in completions
    accumulation: int = 1  # A
    rank: int = 16
    alpha: int = 32
    targets: list[str] = field(default_factory=lambda: list(ATTENTION))
    four_bit: bool = False
    # Without it the weights are not saved: moim draws its own.
    trl: bool = True

    @property
    def prompts(self) -> int:
        return self.batch * self.accumulation // self.generations

    @property
    def completions(self) -> int:
        return self.batch * self.accumulation

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"

    def model(self) -> str:
        """A name that cases with the same weights share."""
        shape = "-".join(str(number) for number in self.shape)
        return f"{shape}-{'tied-' if self.tied else ''}{self.dtype}"


LLAMA_8B = (4096, 14336, 32, 32, 8, 128, 128256)
CASES = {
    "tiny": Case((64, 128, 2, 4, 2, 16, 256), True, "cpu", 32, 16, generations=4, accumulation=2),
    # SmolLM2-135M.
    "smollm2-cpu": Case((576, 1536, 30, 9, 3, 64, 49152), True, "cpu", 128, 64),
    # Llama 3.2 1B and 3.1 8B.
    "llama-1b-bf16": Case((2048, 8192, 16, 32, 8, 64, 128256), True, "cuda", 512, 512, accumulation=2),
    "llama-8b-bf16": Case(LLAMA_8B, False, "cuda", 512, 256, accumulation=2),
    "llama-8b-nf4": Case(LLAMA_8B, False, "cuda", 512, 256, accumulation=2, four_bit=True),
    # Midm-2.0-Base, 11.5 billion parameters.
    "midm-11b-nf4": Case(
        (4096, 14336, 48, 32, 8, 128, 131392),
        False,
        "cuda",
        512,
        1024,
        rank=64,
        alpha=16,
        four_bit=True,
        trl=False,
    ),
}


def prompt_ids(case: Case, prompt: int) -> list[int]:
    """Those of moim's probe."""
    vocabulary = case.shape[-1]
    return [(place * 31 + prompt * 17) % vocabulary for place in range(case.prompt)]


# ---------------------------------------------------------------------------------------------------------------
# The model's folder


def llama_config(case: Case):
    from transformers import LlamaConfig

    return LlamaConfig(
        **dict(zip(SHAPE, case.shape, strict=True)),
        tie_word_embeddings=case.tied,
        max_position_embeddings=max(2048, case.prompt + case.completion),
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=None,
        # A pad token's embedding is drawn as zeros, and a prompt that begins with zeros has gradients that overflow.
        pad_token_id=None,
        dtype=case.dtype,
    )


def make_model(case: Case, folder: Path, seed: int) -> None:
    """Draws and saves a model with a tokenizer of one word an id, in a process of its own."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    config = llama_config(case)
    folder.mkdir(parents=True, exist_ok=True)
    if case.trl:
        torch.manual_seed(seed)
        with torch.device("cuda" if case.device == "cuda" else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, case.dtype))
        model.save_pretrained(folder)
    else:
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
    words = {f"t{i}": i for i in range(case.shape[-1])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="t0", unk_token="t1", eos_token="t2", bos_token="t3"
    ).save_pretrained(folder)
    (folder / "whole").touch()


# ---------------------------------------------------------------------------------------------------------------
# TRL's side


def run_trl(case: Case, folder: Path, steps: int, checkpointing: bool, threads: int | None) -> dict:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    if threads:
        torch.set_num_threads(threads)
    on_gpu = case.device == "cuda"
    work = tempfile.mkdtemp(prefix="compare_trl_")
    start = time.perf_counter()

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def forget_peak() -> None:
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            # proc(5): 5 resets the peak of the resident memory.
            Path("/proc/self/clear_refs").write_text("5")

    def peak() -> int:
        if on_gpu:
            return torch.cuda.max_memory_allocated()
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    taken: list[dict] = []
    lengths: set[int] = set()

    class Timed(GRPOTrainer):
        def _tokenize_prompts(self, prompts):
            return [prompt_ids(case, int(prompt)) for prompt in prompts], None, {}

        def _generate_single_turn(self, *arguments, **named):
            forget_peak()
            begin = now()
            answer = super()._generate_single_turn(*arguments, **named)
            step = taken[-1]
            step["rollout"]["seconds"] += now() - begin
            step["rollout"]["memory"] = max(step["rollout"]["memory"], peak())
            lengths.update(len(ids) for ids in answer[0])
            step["rows"] += len(answer[0])
            return answer

        def _generate_and_score_completions(self, inputs):
            begin = now()
            answer = super()._generate_and_score_completions(inputs)
            taken[-1]["generate_and_score"] += now() - begin
            forget_peak()
            return answer

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            nothing = {"seconds": 0.0, "memory": 0}
            taken.append(
                {"rollout": dict(nothing), "training": dict(nothing), "generate_and_score": 0.0, "rows": 0, "begin": now()}
            )

        def on_step_end(self, *_, **__):
            step = taken[-1]
            step["training"]["seconds"] = now() - step["begin"] - step["generate_and_score"]
            step["training"]["memory"] = peak()

    model_options = {"dtype": case.dtype}
    if not on_gpu:
        model_options["device_map"] = "cpu"
    arguments = GRPOConfig(
        output_dir=work,
        per_device_train_batch_size=case.batch,
        gradient_accumulation_steps=case.accumulation,
        num_generations=case.generations,
        max_completion_length=case.completion,
        max_steps=steps,
        beta=0.0,
        temperature=1.0,
        # Nothing ends a completion.
        generation_kwargs={"eos_token_id": None},
        gradient_checkpointing=checkpointing,
        model_init_kwargs=model_options,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=42,
    )
    quantization = None
    if case.four_bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    trainer = Timed(
        model=str(folder),
        reward_funcs=lambda completions, **_: [float(row % 2) for row in range(len(completions))],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(prompt) for prompt in range(case.prompts)]}),
        callbacks=[Clock()],
        quantization_config=quantization,
        peft_config=LoraConfig(
            r=case.rank,
            lora_alpha=case.alpha,
            lora_dropout=0.0,
            target_modules=case.targets,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.eos_token_ids = []
    load_seconds = now() - start
    trainer.train()
    shutil.rmtree(work, ignore_errors=True)
    adapter = [value for name, value in trainer.model.named_parameters() if "lora_" in name]
    if not all(bool(value.isfinite().all()) for value in adapter):
        raise RuntimeError("TRL's adapter is not finite after training")
    if lengths != {case.completion} or any(step["rows"] != case.completions for step in taken):
        raise RuntimeError(f"TRL drew completions of {sorted(lengths)} tokens, {[s['rows'] for s in taken]} a step")
    for step in taken:
        step["scoring"] = step["generate_and_score"] - step["rollout"]["seconds"]
        del step["begin"]
    device = torch.cuda.get_device_name() if on_gpu else f"{processor()}, {torch.get_num_threads()} threads"
    return summary(taken, load_seconds, device)


def summary(steps: list[dict], load_seconds: float, device: str) -> dict:
    """Medians of the steps after the first, as for moim."""
    counted = steps[1:] or steps
    phases = {}
    for phase in ("rollout", "training"):
        phases[phase] = {
            "seconds": statistics.median(step[phase]["seconds"] for step in counted),
            "memory": max(step[phase]["memory"] for step in counted),
        }
    return {**phases, "load_seconds": load_seconds, "device": device, "first": steps[0], "steps": counted}


# ---------------------------------------------------------------------------------------------------------------
# moim's side


def experiment(case: Case, folder: Path) -> str:
    targets = ", ".join(f'"{name}"' for name in case.targets)
    return f"""
[model]
path = {json.dumps(str(folder))}
device = "{case.device}"
dtype = "{case.dtype}"
[quantization]
load_in_4bit = {str(case.four_bit).lower()}
bnb_4bit_use_double_quant = {str(case.four_bit).lower()}
[lora]
r = {case.rank}
lora_alpha = {case.alpha}
target_modules = [{targets}]
[data]
train = "none.json"
eval = "none.json"
max_prompt_length = {case.prompt}
[grpo]
num_generations = {case.generations}
per_device_train_batch_size = {case.batch}
gradient_accumulation_steps = {case.accumulation}
beta = 0.0
[rollout]
max_completion_length = {case.completion}
temperature = 1.0
[reward]
formula = "format"
"""


def run_moim(case: Case, folder: Path, steps: int, moim: Path, start) -> dict:
    with tempfile.TemporaryDirectory(prefix="compare_trl_") as work:
        file = Path(work) / "experiment.toml"
        file.write_text(experiment(case, folder))
        command = [str(moim), "plan", str(file), "--probe", "--probe-steps", str(steps), "--json"]
        answer, device_peak = start(command)
    probe = json.loads(answer)["probe"]
    before = probe["memory_before"] if case.device == "cpu" else 0
    phases = {
        phase: {
            "seconds": probe[phase]["seconds"],
            "memory": probe[phase]["measured"] + before,
            "predicted": probe[phase]["predicted"],
        }
        for phase in ("rollout", "training")
    }
    if probe["rollout"]["tokens"] != case.completions * case.completion:
        raise RuntimeError(f"moim drew {probe['rollout']['tokens']} tokens")
    if probe["out_of_memory"]:
        raise RuntimeError(f"moim ran out of memory and took smaller parts: {probe['out_of_memory']}")
    if not probe["is_finite"]:
        raise RuntimeError("moim's loss or gradients were not finite, so it skipped the optimizer's step")
    kept = ("load_seconds", "device", "warm_up", "steps")
    return {**phases, **{key: probe[key] for key in kept}, "device_peak": device_peak}


# ---------------------------------------------------------------------------------------------------------------
# Processes, in turns


class Card(threading.Thread):
    """How far the used memory of the first visible card rises, asked of the driver twice a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.before = self.used()
        self.peak = self.before

    @staticmethod
    def used() -> int:
        index = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        query = ["nvidia-smi", "-i", index, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        try:
            return int(subprocess.run(query, capture_output=True, text=True, timeout=20).stdout) << 20
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return 0

    def run(self):
        while not self.done.wait(0.5):
            self.peak = max(self.peak, self.used())

    def risen(self) -> int:
        self.done.set()
        self.join()
        return self.peak - self.before


def starter(case: Case, threads: int | None):
    """Runs a command and answers its output and how far the card's memory rose."""

    def pin():
        if threads and case.device == "cpu":
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}

    def start(command: list[str]) -> tuple[str, int | None]:
        card = None
        if case.device == "cuda":
            card = Card()
            card.start()
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=pin
        )
        risen = card.risen() if card else None
        if done.returncode != 0:
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-25:])
            raise RuntimeError(f"{' '.join(command)}\nended with {done.returncode}:\n{last}")
        return done.stdout, risen

    return start


def child(case: Case, folder: Path, what: str, options: dict, start) -> tuple[str, int | None]:
    order = json.dumps({"case": asdict(case), "folder": str(folder), "what": what, **options})
    return start([sys.executable, str(Path(__file__).resolve()), "--child", order])


def as_child(order: dict) -> None:
    case = Case(**{**order["case"], "shape": tuple(order["case"]["shape"])})
    folder = Path(order["folder"])
    if order["what"] == "model":
        make_model(case, folder, seed=0)
        return
    answer = run_trl(case, folder, order["steps"], order["checkpointing"], order["threads"])
    print("\n" + json.dumps(answer))


def compare(name: str, case: Case, options: argparse.Namespace, models: Path) -> dict:
    folder = models / (case.model() if case.trl else case.model() + "-drawn")
    start = starter(case, options.threads)
    if not (folder / "whole").exists():
        say(f"{name}: making {folder}")
        child(case, folder, "model", {}, start)
    rounds = []
    order = {"steps": options.steps, "checkpointing": options.checkpointing, "threads": options.threads}
    sides = [side for side in ("trl", "moim") if side in options.sides and (case.trl or side == "moim")]
    for index in range(options.rounds):
        sample = {}
        for side in sides:
            say(f"{name}: round {index + 1} of {options.rounds}, {side}")
            if side == "moim":
                sample[side] = run_moim(case, folder, options.steps, options.moim, start)
            else:
                answer, device_peak = child(case, folder, "trl", order, start)
                sample[side] = {**json.loads(answer.splitlines()[-1]), "device_peak": device_peak}
        rounds.append(sample)
    return {"name": name, "case": asdict(case), "rounds": rounds, "phases": phases_of(case, rounds, sides)}


def phases_of(case: Case, rounds: list[dict], sides: list[str]) -> dict:
    phases = {}
    tokens = case.completions * case.completion
    measures = {
        **{(phase, key): lambda one, p=phase, k=key: one[p][k] for phase in ("rollout", "training") for key in ("seconds", "memory")},
        ("step", "seconds"): lambda one: one["rollout"]["seconds"] + one["training"]["seconds"],
        ("step", "memory"): lambda one: max(one["rollout"]["memory"], one["training"]["memory"]),
    }
    if case.device == "cuda":
        measures[("device", "memory")] = lambda one: one["device_peak"]
    for (phase, key), value in measures.items():
        row = phases.setdefault(phase, {})
        for side in sides:
            row[f"{side}_{key}"] = statistics.median(value(sample[side]) for sample in rounds)
            if key == "seconds":
                row[f"{side}_tokens_per_second"] = tokens / row[f"{side}_seconds"]
        if len(sides) == 2:
            ratios = sorted(value(sample["moim"]) / max(value(sample["trl"]), 1e-9) for sample in rounds)
            row[f"{key}_ratio"] = statistics.median(ratios)
            row[f"{key}_ratio_range"] = [ratios[0], ratios[-1]]
    return phases


# ---------------------------------------------------------------------------------------------------------------
# What is printed


def table(results: list[dict]) -> str:
    lines = [
        "| case | phase | moim | TRL | moim / TRL | moim tokens/s | TRL tokens/s | moim memory | TRL memory | moim / TRL |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for phase, row in result["phases"].items():
            cells = [result["name"], phase]
            cells += [cell(row.get(f"{side}_seconds"), "{:.3f} s") for side in ("moim", "trl")]
            cells.append(cell(row.get("seconds_ratio"), "{:.2f}"))
            cells += [cell(row.get(f"{side}_tokens_per_second"), "{:.1f}") for side in ("moim", "trl")]
            cells += [cell(row.get(f"{side}_memory"), "{:.2f} GiB", GIB) for side in ("moim", "trl")]
            cells.append(cell(row.get("memory_ratio"), "{:.2f}"))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float | None, form: str, unit: float = 1) -> str:
    return "-" if value is None else form.format(value / unit)


def heading(results: list[dict], options: argparse.Namespace) -> str:
    samples = [sample for result in results for sample in result["rounds"]]
    devices = {one["device"] for sample in samples for side, one in sample.items() if side == "moim"}
    devices = devices or {one["device"] for sample in samples for one in sample.values()}
    lines = [
        f"## {date.today():%d %B %Y}, beside TRL: {'; '.join(sorted(devices))}",
        "",
        f"`benches/compare_trl.py --cases {','.join(options.cases)} --rounds {options.rounds} --steps {options.steps}"
        f"{'' if options.checkpointing else ' --no-checkpointing'}"
        f"{f' --threads {options.threads}' if options.threads else ''}`, {versions(options.moim)}.",
        "",
    ]
    for result in results:
        case = result["case"]
        shape = dict(zip(SHAPE, case["shape"], strict=True))
        lines.append(
            f"`{result['name']}`: {shape['num_hidden_layers']} layers of {shape['hidden_size']}, vocabulary "
            f"{shape['vocab_size']}, {'NF4' if case['four_bit'] else Case(**case).dtype}; {case['prompt']} + "
            f"{case['completion']} tokens, B = {case['batch']}, G = {case['generations']}, "
            f"A = {case['accumulation']}, LoRA r = {case['rank']}.\n"
        )
    return "\n".join(lines)


def versions(moim: Path) -> str:
    from importlib import metadata

    found = []
    for package in ("trl", "transformers", "torch", "peft", "bitsandbytes"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            pass
    told = subprocess.run([str(moim), "--version"], capture_output=True, text=True).stdout.strip()
    return ", ".join([told or "moim", *found])


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="cases: " + ", ".join(CASES))
    parser.add_argument("--cases", default="smollm2-cpu", type=lambda text: text.split(","), help="comma-separated")
    parser.add_argument("--moim", type=Path, default=Path(__file__).resolve().parent.parent / "target/release/moim")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, in turns (3)")
    parser.add_argument("--steps", type=int, default=3, help="of each process; the first is not counted (3)")
    parser.add_argument("--threads", type=int, help="processors of both sides on the CPU (all)")
    parser.add_argument("--prompt", type=int, help="tokens of a prompt (the case's)")
    parser.add_argument("--completion", type=int, help="tokens of a completion (the case's)")
    parser.add_argument("--batch", type=int, help="B, in completions (the case's)")
    parser.add_argument("--accumulation", type=int, help="A (the case's)")
    parser.add_argument(
        "--no-checkpointing", dest="checkpointing", action="store_false", help="TRL keeps all activations"
    )
    parser.add_argument("--sides", default="trl,moim", type=lambda text: text.split(","), help="trl, moim or both")
    parser.add_argument("--trl-all", action="store_true", help="TRL also where the case leaves it out")
    parser.add_argument("--models", type=Path, help="where drawn models are kept (else a folder that is removed)")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.cases if name not in CASES]
    if unknown and not options.child:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if not options.child and not options.moim.exists() and "moim" in options.sides:
        parser.error(f"{options.moim} is not there: build it, or say where it is with --moim")
    return options


def changed(case: Case, options: argparse.Namespace) -> Case:
    given = {key: getattr(options, key) for key in ("prompt", "completion", "batch", "accumulation")}
    values = {**asdict(case), **{key: value for key, value in given.items() if value}}
    return Case(**{**values, "shape": case.shape, "trl": case.trl or options.trl_all})


def main() -> int:
    options = parse()
    if options.child:
        as_child(options.child)
        return 0
    options.moim = options.moim.resolve()
    models = options.models or Path(tempfile.mkdtemp(prefix="compare_trl_models_"))
    models = models.resolve()
    results, failed = [], []
    try:
        for name in options.cases:
            try:
                results.append(compare(name, changed(CASES[name], options), options, models))
            except Exception as error:  # One case must not take the others' figures along.
                failed.append(name)
                say(f"{name} failed: {error}")
                if not isinstance(error, RuntimeError):
                    say(traceback.format_exc())
    finally:
        if options.models is None:
            shutil.rmtree(models, ignore_errors=True)
    if results:
        print(heading(results, options))
        print(table(results))
    if options.json:
        report = {"versions": versions(options.moim), "results": results, "failed": failed}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
