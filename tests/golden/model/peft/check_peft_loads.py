"""Loads a LoRA adapter with PEFT and prints the logits, to check adapters that moim wrote.

    python tests/golden/model/peft/check_peft_loads.py ADAPTER_DIR BASE_DIR IDS > logits.json

IDS: rows of token ids, ids by commas and rows by semicolons (5,9,3;7,8), or a JSON file holding a
list of rows, or a golden.json (its `rows[].input_ids`). Prints one JSON object: `rows` of
{input_ids, logits [positions, vocab], largest_change against the base model}, computed in float32
with the adapter unmerged. Exits with 1 when PEFT reports missing or unexpected adapter keys, when it
warns about the adapter's configuration, or when the adapter changes nothing.

Written for peft 0.21.2, transformers 5.23.0, torch 2.15.0.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict, load_peft_weights
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import exaone  # noqa: E402
import golden_json  # noqa: E402


def read_rows(text):
    if Path(text).is_file():
        value = json.loads(Path(text).read_text())
        return [row["input_ids"] for row in value["rows"]] if isinstance(value, dict) else value
    return [[int(token) for token in row.split(",")] for row in text.split(";")]


def base_model(folder):
    if json.loads((Path(folder) / "config.json").read_text())["model_type"] == "exaone":
        return exaone.load(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    adapter, base, rows = sys.argv[1], sys.argv[2], read_rows(sys.argv[3])
    torch.set_num_threads(1)
    problems = []
    settings = PeftConfig.from_pretrained(adapter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = base_model(base)
        model = PeftModel.from_pretrained(model, adapter).eval()
    problems += [str(warning.message) for warning in caught if "adapter" in str(warning.message).lower()]
    saved, loaded = load_peft_weights(adapter, device="cpu"), get_peft_model_state_dict(model)
    if set(saved) != set(loaded):
        problems.append(f"keys differ: {sorted(set(saved) ^ set(loaded))}")
    for key in set(saved) & set(loaded):
        if not torch.equal(saved[key].float(), loaded[key].float()):
            problems.append(f"{key}: the loaded values differ from the file")
    result = {
        "base": Path(base).name,
        "r": settings.r,
        "lora_alpha": settings.lora_alpha,
        "target_modules": sorted(settings.target_modules),
        "tensors": len(saved),
        "rows": [],
    }
    for ids in rows:
        logits = model(torch.tensor([ids])).logits[0]
        with model.disable_adapter():
            change = (logits - model(torch.tensor([ids])).logits[0]).abs().max()
        result["rows"].append({"input_ids": ids, "largest_change": change, "logits": logits})
    if all(float(row["largest_change"]) == 0.0 for row in result["rows"]):
        problems.append("the adapter changes nothing")
    print(golden_json.render(golden_json.plain(result)))
    for problem in problems:
        print(f"check_peft_loads: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
