"""Makes losses.json: what TRL's own loss answers for fixed log-probabilities, with all gradients.

    python tests/golden/grpo/make_losses.py

Made with trl 1.16.0, torch 2.15.0 (CPU, one thread), Python 3.11. `GRPOTrainer._compute_loss` itself runs,
with a stand-in for the trainer that holds the settings; the log-probabilities are the leaf, so their
gradient is the golden value. Everything is float64, so that what differs is arithmetic and not rounding;
the stand-in's `get_high_entropy_mask` is TRL's, which takes its quantile in float32.

Keys: the inputs `log_probs`, `old`, `ref`, `entropies` (rows are completions, padded with 0), `lengths`,
`advantages`; each of `cases`: `settings` (TRL's keys; `old` and `masked` say whether old log-probabilities were
given and which rows are masked as truncated), `loss`, `gradient` and `metrics`. `advantages_cases`: rewards
(null is None) with weights, `scale_rewards` and `multi_objective_aggregation`, and the advantages that the lines
of `_generate_and_score_completions` make of them. `overlong`: TRL's `get_soft_overlong_punishment`.
"""

import inspect
import os
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import sys

import torch
import trl.trainer.grpo_trainer as grpo_trainer
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import get_soft_overlong_punishment

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "model"))
import golden_json  # noqa: E402

ROWS, COLUMNS = 4, 6
LENGTHS = [6, 4, 3, 5]
ADVANTAGES = [1.0, -0.5, 0.75, -1.25]

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


class Accelerator:
    num_processes = 1
    sync_gradients = True
    gather = staticmethod(lambda x: x)
    reduce = staticmethod(lambda x, reduction: x)
    pad_across_processes = staticmethod(lambda x, dim, pad_index: x)


def inputs():
    generator = torch.Generator().manual_seed(71)
    # Rounded so that a file of seven digits holds the same numbers, in float32 too.
    draw = lambda scale: (torch.rand(ROWS, COLUMNS, generator=generator) * scale * 64).round().double() / 64
    log_probs = -draw(2.0) - 1 / 64
    old = log_probs + draw(1.0) - 0.5
    reference = log_probs + draw(1.0) - 0.5
    mask = torch.tensor([[column < length for column in range(COLUMNS)] for length in LENGTHS])
    zero = torch.zeros(())
    keep = lambda x: torch.where(mask, x, zero)
    return keep(log_probs), keep(old), keep(reference), keep(draw(3.0)), mask


def compute(settings):
    log_probs, old, reference, entropies, mask = inputs()
    leaf = log_probs.clone().requires_grad_()
    mask = mask.clone()
    for row in settings.get("masked", []):
        mask[row] = False
    names = ("loss_type", "epsilon_high", "top_entropy_quantile", "importance_sampling_level")
    options = {key: value for key, value in settings.items() if key not in ("old", "masked", "epsilon")}
    arguments = GRPOConfig(
        output_dir="/tmp/unused", report_to=[], bf16=False, use_cpu=True,
        per_device_train_batch_size=ROWS, num_generations=2, max_completion_length=9,
        gradient_accumulation_steps=2, **options,
    )
    epsilon_high = arguments.epsilon_high if arguments.epsilon_high is not None else arguments.epsilon
    trainer = SimpleNamespace(
        args=arguments, accelerator=Accelerator(), model=SimpleNamespace(training=True), aux_loss_enabled=False,
        epsilon_low=arguments.epsilon, epsilon_high=epsilon_high, beta=arguments.beta, use_vllm=False,
        vllm_importance_sampling_correction=False, max_completion_length=arguments.max_completion_length,
        off_policy_mask_threshold=arguments.off_policy_mask_threshold, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=2, _metrics={"train": defaultdict(list)},
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask, get_gamma_weights=GRPOTrainer.get_gamma_weights,
        **{name: getattr(arguments, name) for name in names if name != "epsilon_high"},
    )
    trainer.get_high_entropy_mask = lambda *a: GRPOTrainer.get_high_entropy_mask(trainer, *a)
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (leaf, entropies, None)
    batch = {
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.long), "prompt_mask": torch.ones(ROWS, 1, dtype=torch.long),
        "completion_ids": torch.zeros(ROWS, COLUMNS, dtype=torch.long), "completion_mask": mask.long(),
        "advantages": torch.tensor(ADVANTAGES, dtype=torch.float64),
        # As TRL counts it: over the generation, which here is two accumulation steps as large as this one.
        "num_items_in_batch": 2 * mask.sum(), "ref_per_token_logps": reference,
    }
    if settings.get("old", True):
        batch["old_per_token_logps"] = old
    loss = GRPOTrainer._compute_loss(trainer, None, batch)
    loss.backward()
    gradient = torch.where(mask, leaf.grad, torch.zeros((), dtype=torch.float64))
    metrics = {key: values[0] for key, values in trainer._metrics["train"].items()}
    return {"settings": settings, "loss": loss.item(), "gradient": gradient, "metrics": metrics}


def cases():
    for loss in LOSSES:
        high = {"epsilon_high": 1.1} if loss == "cispo" else {}
        for level in ("token", "sequence"):
            base = dict(loss_type=loss, importance_sampling_level=level, **high)
            yield f"{loss} {level}", base
            yield f"{loss} {level} beta", dict(base, beta=0.3)
            yield f"{loss} {level} entropy", dict(base, top_entropy_quantile=0.4)
            yield f"{loss} {level} off-policy mask", dict(base, off_policy_mask_threshold=0.02)
            yield f"{loss} {level} masked rows", dict(base, masked=[1, 2], beta=0.1)
        yield f"{loss} on-policy", dict(loss_type=loss, old=False, beta=0.2, **high)
        yield f"{loss} plain kl", dict(loss_type=loss, beta=0.2, use_bias_correction_kl=False, **high)
    for loss in ("grpo", "dapo", "luspo"):
        yield f"{loss} wide", dict(loss_type=loss, epsilon_high=0.28, delta=1.4, beta=0.1)
    yield "sapo steep", dict(loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=3.0)
    yield "vespo other", dict(loss_type="vespo", vespo_k_pos=1.0, vespo_lambda_pos=0.5, vespo_k_neg=2.0, vespo_lambda_neg=1.0)
    yield "cispo wide", dict(loss_type="cispo", epsilon_high=5.0)


def advantages_cases():
    """The lines of TRL from the rewards to the advantages, run as they stand."""
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    start = source.index("unscorable_mask = torch.isnan(rewards_per_func)")
    start = source.rindex("\n", 0, start) + 1
    end = source.index("# Slice to keep only the local part of the data")
    code = compile(textwrap.dedent(source[start : source.rindex("\n", 0, end)]), "trl", "exec")
    none = float("nan")
    sets = {
        "two": ([[1.0, none], [0.0, 0.2], [none, none], [1.0, 0.6]], [1.0, 2.0], 4),
        "groups": ([[1.0, 0.3], [0.0, 0.2], [0.5, none], [1.0, 0.6], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1],
                    [none, none], [none, 1.0], [0.2, 0.0], [0.9, 0.4]], [0.5, 1.5], 4),
        "one": ([[1.0], [0.0], [0.5], [0.5], [0.25], [0.75], [0.0], [none]], [2.0], 2),
    }
    for name, (rewards, weights, group) in sets.items():
        for aggregation in ("sum_then_normalize", "normalize_then_sum"):
            for scale in ("group", "batch", "none"):
                if aggregation == "normalize_then_sum" and scale != "group":
                    continue
                per_function = torch.tensor(rewards, dtype=torch.float64)
                trainer = SimpleNamespace(
                    multi_objective_aggregation=aggregation, scale_rewards=scale,
                    reward_weights=torch.tensor(weights, dtype=torch.float64), reward_funcs=weights,
                )
                space = dict(vars(grpo_trainer), self=trainer, rewards_per_func=per_function, num_generations=group,
                             device="cpu", torch=torch)
                exec(code, space)
                yield {
                    "name": f"{name} {aggregation} {scale}", "rewards": rewards, "weights": weights, "group": group,
                    "aggregation": aggregation, "scale": scale, "advantages": space["advantages"],
                }


def main():
    torch.set_num_threads(1)
    log_probs, old, reference, entropies, _ = inputs()
    punish = get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=6)
    lengths = list(range(10, 24))
    no_nan = lambda rows: [[None if value != value else value for value in row] for row in rows]
    golden_json.write(
        HERE / "losses.json",
        {
            "made_by": "make_losses.py",
            "log_probs": log_probs, "old": old, "ref": reference, "entropies": entropies,
            "lengths": LENGTHS, "advantages": ADVANTAGES,
            "cases": {name: compute(settings) for name, settings in cases()},
            "advantages_cases": [dict(case, rewards=no_nan(case["rewards"])) for case in advantages_cases()],
            "overlong": {
                "max_completion_length": 20, "soft_punish_cache": 6, "lengths": lengths,
                "rewards": punish([[0] * length for length in lengths]),
            },
        },
    )


if __name__ == "__main__":
    main()
