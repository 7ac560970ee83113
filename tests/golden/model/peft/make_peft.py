"""Makes attention_r4/ and all_linear_r3/: LoRA adapters on ../tiny_llama, saved by PEFT itself.

    python tests/golden/model/peft/make_peft.py

Made with peft 0.21.2, transformers 5.23.0, torch 2.15.0 (CPU, one thread), Python 3.11.

golden.json: for the rows of ../tiny_llama/golden.json, the logits with the adapter on (float32,
adapter applied unmerged) and the largest change against the base model.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import golden_json  # noqa: E402

BASE = HERE.parent / "tiny_llama"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "attention_r4": dict(r=4, lora_alpha=8, target_modules=ATTENTION),
    "all_linear_r3": dict(r=3, lora_alpha=6, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"]),
}


def base_model():
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager").eval()


def randomise(model, seed):
    """PEFT's own A (kaiming uniform, from the global seed) is kept; B, zero at birth, is drawn."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if "lora_B" in name:
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))


def save(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    # The folder name alone: PEFT would write the absolute path of this machine.
    model.peft_config["default"].base_model_name_or_path = "tiny_llama"
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    # PEFT keeps target_modules as a set, whose order changes from run to run.
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    rows = json.loads((BASE / "golden.json").read_text())["rows"]
    for index, (name, settings) in enumerate(ADAPTERS.items()):
        torch.manual_seed(31 + index)
        model = get_peft_model(base_model(), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings)).eval()
        randomise(model, 41 + index)
        folder = HERE / name
        save(model, folder)
        reloaded = PeftModel.from_pretrained(base_model(), folder).eval()
        result = {"made_by": "make_peft.py", "base": "tiny_llama", "rows": []}
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            logits = reloaded(ids).logits[0]
            assert torch.equal(logits, model(ids).logits[0])
            change = (logits - torch.tensor(row["logits"])).abs().max()
            assert change > 0.1, "the adapter must matter"
            result["rows"].append({"input_ids": row["input_ids"], "largest_change": change, "logits": logits})
            print(name, "largest change", float(change))
        golden_json.write(folder / "golden.json", result)


if __name__ == "__main__":
    main()
