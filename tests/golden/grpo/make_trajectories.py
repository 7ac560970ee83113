"""Makes trajectories.json, initial_adapter/ and final_CASE.safetensors: ten optimiser steps of GRPO.

    python tests/golden/grpo/make_trajectories.py

Made with trl 1.16.0, transformers 5.23.0, peft 0.21.2, accelerate 1.15.0, torch 2.15.0 (CPU, one
thread), Python 3.11. Start from ../model/tiny_llama (float32); run ../model/make_tiny_models.py first.

What is TRL's: everything between the rollout and the weights. `trl.GRPOTrainer.train()` itself runs,
with its sampler, advantages, old and reference log-probabilities, `_compute_loss`, the gradient
accumulation, clipping, AdamW (`adamw_torch`) and logging of transformers' Trainer.

What is ours:
- the completions are fixed and come in through TRL's own hook `rollout_func`; the rewards are fixed;
- TRL shuffles the rows of a generation batch before it cuts it into micro-batches
  (`shuffle_sequence_dict`); here that is the identity, so micro-batch i holds the rows in order;
- the adapter is created by TRL through PEFT (so that the reference is the adapter switched off) and
  then filled with the values of initial_adapter/, where B is not zero; where a case is `continued` it comes
  as a ready-made PeftModel, which gets a second adapter "ref" as reference;
- `_compute_loss` is wrapped only to write down what it was given and what it returned.

Keys of trajectories.json. `prompts`, `completions` [prompt][generation], `rewards` [prompt][generation],
`truncated` [prompt, generation] of the completion without an end token (end token 2). Each of `cases`:
`settings` (TRL's keys), `first` (what entered step 1: `advantages`, `log_probs`, and where they exist
`ref_log_probs` and `old_log_probs`, one list a completion, unpadded, 0 where the completion is masked) and `steps`, ten of them:
`loss` (sum over micro-batches, each already divided as its loss type says), `micro_losses`,
`grad_norm` (before clipping), `kl`, `entropy` (nats, mean over the tokens, means over micro-batches),
`clip_ratio/*`; `constant` holds metrics that are equal at every step where TRL logs them (those
of the rollout only where it generates: every second step with two iterations). `sensitivity`: the largest
difference of the same run with another attention kernel (sdpa against eager), per quantity, so a
test knows how much of its tolerance is arithmetic noise. `learning_rate` is 1e-2, constant.
final_CASE.safetensors has PEFT's key names.
"""

import copy
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import trl.trainer.grpo_trainer as grpo_trainer
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "model"))
import golden_json  # noqa: E402

BASE = HERE.parent / "model" / "tiny_llama"
EOS = 2
STEPS = 10
PROMPT_LENGTHS = [5, 7]
# 20 and 25 tokens: the groups differ, so that per-micro-batch and per-step normalisers do too.
COMPLETION_LENGTHS = [[3, 8, 5, 4], [4, 7, 8, 6]]
TRUNCATED = [1, 2]
REWARDS = [[1.0, 0.0, 0.5, 0.25], [0.2, 0.9, 0.9, 0.4]]
LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])

# B counts completions (TRL >= 0.15): 8 completions are the 2 prompts of one optimiser step.
COMMON = dict(
    per_device_train_batch_size=8,
    gradient_accumulation_steps=1,
    num_generations=4,
    max_completion_length=8,
    temperature=1.0,
    beta=0.0,
    epsilon=0.2,
    num_iterations=1,
    loss_type="dapo",
    importance_sampling_level="token",
    scale_rewards="group",
    mask_truncated_completions=False,
    use_bias_correction_kl=True,
    learning_rate=1e-2,
    adam_beta1=0.9,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    weight_decay=0.0,
    max_grad_norm=1.0,
    lr_scheduler_type="constant",
)
CASES = {
    "a_grpo_kl": dict(loss_type="grpo", beta=0.04, temperature=0.7),
    "b_dapo": dict(loss_type="dapo"),
    "c_bnpo_two_iterations": dict(loss_type="bnpo", num_iterations=2, epsilon=0.2),
    "d_dr_grpo_kl": dict(loss_type="dr_grpo", beta=0.1),
    "e_grpo_sequence_two_iterations": dict(loss_type="grpo", importance_sampling_level="sequence", num_iterations=2),
    "f_dapo_accumulation": dict(loss_type="dapo", per_device_train_batch_size=4, gradient_accumulation_steps=2),
    "g_bnpo_accumulation_kl": dict(
        loss_type="bnpo", beta=0.1, per_device_train_batch_size=4, gradient_accumulation_steps=2
    ),
    "h_dapo_mask_truncated": dict(loss_type="dapo", mask_truncated_completions=True),
    "i_grpo_kl_two_iterations": dict(loss_type="grpo", beta=0.1, num_iterations=2, scale_rewards="none"),
    "j_cispo_two_iterations": dict(loss_type="cispo", epsilon_high=1.05, num_iterations=2),
    "k_sapo_two_iterations_batch": dict(loss_type="sapo", num_iterations=2, scale_rewards="batch"),
    "l_vespo_two_iterations": dict(loss_type="vespo", num_iterations=2),
    "m_luspo_sequence_two_iterations": dict(
        loss_type="luspo", importance_sampling_level="sequence", num_iterations=2, learning_rate=2e-3
    ),
    "n_dapo_entropy": dict(loss_type="dapo", top_entropy_quantile=0.5, num_iterations=2),
    # One prompt a step: the second step of a generation trains on what the policy before the first sampled.
    "o_dapo_steps_per_generation": dict(loss_type="dapo", per_device_train_batch_size=4, steps_per_generation=2),
    "p_grpo_steps_per_generation_two_iterations": dict(
        loss_type="grpo", per_device_train_batch_size=4, steps_per_generation=2, num_iterations=2
    ),
    # Training goes on from an adapter that is there: TRL keeps a copy of it as the reference policy.
    "q_grpo_kl_continued": dict(loss_type="grpo", beta=0.2, continued=True),
}


def base_model(attention="eager"):
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation=attention)


def make_initial_adapter(folder):
    torch.manual_seed(51)
    model = get_peft_model(base_model(), LoraConfig(task_type="CAUSAL_LM", **LORA))
    generator = torch.Generator().manual_seed(52)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if "lora_B" in name:
                tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = "tiny_llama"  # not this machine's path
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def make_rollout():
    """Prompts at random; completions sampled from the base model, so that they are plausible."""
    model, generator = base_model().eval(), torch.Generator().manual_seed(53)
    prompts, completions = [], []
    for prompt_index, length in enumerate(PROMPT_LENGTHS):
        prompt = torch.randint(3, model.config.vocab_size, (length,), generator=generator).tolist()
        group = []
        for generation_index, completion_length in enumerate(COMPLETION_LENGTHS[prompt_index]):
            ids = list(prompt)
            for _ in range(completion_length):
                logits = model(torch.tensor([ids])).logits[0, -1]
                logits[:3] = -torch.inf
                ids.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
            completion = ids[length:]
            if [prompt_index, generation_index] != TRUNCATED:
                completion[-1] = EOS
            group.append(completion)
        prompts.append(prompt)
        completions.append(group)
    return prompts, completions


def tokenizer(vocab_size):
    vocab = {"<pad>": 0, "<bos>": 1, "<eos>": EOS, **{f"t{token}": token for token in range(3, vocab_size)}}
    tokens = Tokenizer(WordLevel(vocab, unk_token="<pad>"))
    tokens.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
    )


class RecordingTrainer(GRPOTrainer):
    """GRPOTrainer that writes down each micro-batch; the mathematics is untouched."""

    def _compute_loss(self, model, inputs):
        if not hasattr(self, "record"):
            self.record, self.first, self.seen = [], [], set()
        if self.state.global_step == 0:
            with torch.no_grad():
                ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
                attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
                log_probs, _, _ = self._get_per_token_logps_and_entropies(
                    model, ids, attention, inputs["completion_ids"].size(1)
                )
            entry = {"log_probs": log_probs, "mask": inputs["completion_mask"], "advantages": inputs["advantages"]}
            entry["num_items_in_batch"] = inputs["num_items_in_batch"]
            for key in ("old_per_token_logps", "ref_per_token_logps"):
                if key in inputs:
                    entry[key] = inputs[key]
            self.first.append(entry)
        loss = super()._compute_loss(model, inputs)
        self.record.append((self.state.global_step, loss.item()))
        return loss


def run(name, prompts, completions, attention):
    settings = {**COMMON, **CASES[name]}
    options = {key: value for key, value in settings.items() if key != "continued"}
    with tempfile.TemporaryDirectory() as output:
        arguments = GRPOConfig(
            output_dir=output,
            max_steps=STEPS,
            optim="adamw_torch",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            shuffle_dataset=False,
            disable_tqdm=True,
            seed=42,
            **options,
        )
        by_text = {" ".join(f"t{token}" for token in prompt): index for index, prompt in enumerate(prompts)}

        def rollout(texts, trainer):
            indices = [by_text[text] for text in texts]
            generations = [texts[:position].count(text) for position, text in enumerate(texts)]
            return {
                "prompt_ids": [prompts[index] for index in indices],
                "completion_ids": [completions[i][g] for i, g in zip(indices, generations)],
                "logprobs": None,
                "fixed_reward": [REWARDS[i][g] for i, g in zip(indices, generations)],
            }

        def fixed_reward(prompts, completions, completion_ids, fixed_reward, **rest):
            return fixed_reward

        torch.manual_seed(0)
        model = base_model(attention)
        vocab_size = model.config.vocab_size
        peft_config = LoraConfig(task_type="CAUSAL_LM", **LORA)
        if settings.get("continued"):
            model = PeftModel.from_pretrained(model, HERE / "initial_adapter", is_trainable=True)
            peft_config = None
        trainer = RecordingTrainer(
            model=model,
            args=arguments,
            reward_funcs=fixed_reward,
            train_dataset=Dataset.from_dict({"prompt": list(by_text)}),
            processing_class=tokenizer(vocab_size),
            peft_config=peft_config,
            rollout_func=rollout,
        )
        set_peft_model_state_dict(trainer.model, load_file(HERE / "initial_adapter" / "adapter_model.safetensors"))
        trainable = {parameter.dtype for parameter in trainer.model.parameters() if parameter.requires_grad}
        assert trainable == {torch.float32}, trainable
        trainer.train()
        final = {key: value.clone() for key, value in get_peft_model_state_dict(trainer.model).items()}

    history = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    assert len(history) == STEPS
    steps = []
    for index, entry in enumerate(history):
        micro_losses = [loss for step, loss in trainer.record if step == index]
        step = {"loss": sum(micro_losses), "micro_losses": micro_losses}
        assert abs(entry["loss"] - step["loss"]) < 1e-4, (entry["loss"], step["loss"])
        for key in sorted(entry):
            if key in ("grad_norm", "kl", "entropy") or key.startswith("clip_ratio/"):
                step[key] = entry[key]
        steps.append(step)
    skipped = ("loss", "grad_norm", "kl", "entropy", "step_time", "epoch", "step", "num_tokens", "completion_length")
    constant = {
        key: history[0][key]
        for key in sorted(history[0])
        if key not in skipped
        and not key.startswith(("clip_ratio/", "profiling"))
        and all(entry.get(key, history[0][key]) == history[0][key] for entry in history)
    }
    first = {"advantages": [], "log_probs": []}
    names = {"old_per_token_logps": "old_log_probs", "ref_per_token_logps": "ref_log_probs", "log_probs": "log_probs"}
    lengths = [len(completion) for group in completions for completion in group]
    for entry in trainer.first:
        for key, value in entry.items():
            if key in names:
                start = len(first["advantages"])
                rows = [row[: lengths[start + offset]] for offset, row in enumerate(value)]
                first.setdefault(names[key], []).extend(row.tolist() for row in rows)
        first["advantages"].extend(entry["advantages"].tolist())
    first["num_items_in_batch"] = int(trainer.first[0]["num_items_in_batch"])
    return {"settings": settings, "constant": constant, "first": first, "steps": steps}, final


def sensitivity(case, final, other_case, other_final):
    result = {}
    for key in ("loss", "grad_norm", "kl", "entropy"):
        if key in case["steps"][0]:
            pairs = zip(case["steps"], other_case["steps"])
            result[key] = max(abs(step[key] - other[key]) for step, other in pairs)
    result["adapter"] = max(float((final[key] - other_final[key]).abs().max()) for key in final)
    return result


def main():
    torch.set_num_threads(1)
    grpo_trainer.shuffle_sequence_dict = lambda batch: batch
    make_initial_adapter(HERE / "initial_adapter")
    prompts, completions = make_rollout()
    cases = {}
    for name in CASES:
        case, final = run(name, copy.deepcopy(prompts), copy.deepcopy(completions), "eager")
        other_case, other_final = run(name, copy.deepcopy(prompts), copy.deepcopy(completions), "sdpa")
        case["sensitivity"] = sensitivity(case, final, other_case, other_final)
        initial = load_file(HERE / "initial_adapter" / "adapter_model.safetensors")
        assert set(final) == set(initial)
        case["largest_adapter_change"] = max(float((final[key] - initial[key]).abs().max()) for key in final)
        save_file({key: value.contiguous() for key, value in final.items()}, HERE / f"final_{name}.safetensors",
                  metadata={"format": "pt"})
        cases[name] = case
        print(name, [round(step["loss"], 6) for step in case["steps"]], case["sensitivity"], flush=True)
    golden_json.write(
        HERE / "trajectories.json",
        {
            "made_by": "make_trajectories.py",
            "base": "tiny_llama",
            "lora": LORA,
            "prompts": prompts,
            "completions": completions,
            "rewards": REWARDS,
            "truncated": TRUNCATED,
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
