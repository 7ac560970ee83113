"""Makes tiny_mistral/, tiny_qwen2/, tiny_qwen3/ and tiny_exaone/ with golden.json in each.

    OMP_NUM_THREADS=1 python tests/golden/model/make_families.py

Made with transformers 5.23.0, peft 0.21.2, bitsandbytes 0.50.2, torch 2.15.0 (CPU, one thread), Python 3.11.

| folder       | what it pins                                                                                |
|--------------|---------------------------------------------------------------------------------------------|
| tiny_mistral | `sliding_window` null, explicit head_dim (query width 64, hidden 32), untied, bf16          |
| tiny_qwen2   | biases on q, k and v, no head_dim in config.json, tied head, bf16 in shards                 |
| tiny_qwen3   | norms of the heads of q and k, explicit head_dim, untied head, bf16                         |
| tiny_exaone  | names of tensors and keys, llama3 rope, tied head, bf16; transformers has no such class, so |
|              | it is its Llama under EXAONE's names (exaone.py)                                            |

golden.json as make_tiny_models.py writes it, and beside `rows`, for the first row:

| key | what |
|---|---|
| `adapted_logits` | logits with a LoRA adapter by PEFT, unmerged: r = 2, alpha = 6, all seven linear layers, factors filled by the formula in `fill` |
| `gradients` | of `loss`, of the factors (layer after layer; q, k, v, o, gate, up, down; A, then B): length, and product with the formula's values |
| `weight_gradients` | as `gradients`, of every weight of the model without an adapter, in the order of names |
| `nf4_logits` | logits where each linear layer has gone through bitsandbytes' NF4 with double quantisation and back, in float32 |

`loss` is the sum of weighted log-probabilities of `continuation` at temperature 0.8, with the weights
0.3 - 0.11 i.
"""

import ctypes
import json
import os
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch


def refuse(path, load=ctypes.cdll.LoadLibrary):
    # The native library looks scales up approximately (golden/nf4/make_nf4.py).
    if "bitsandbytes" in str(path):
        raise OSError("left out")
    return load(path)


ctypes.cdll.LoadLibrary = refuse
import bitsandbytes
from bitsandbytes import functional
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

import exaone
import golden_json
import make_tiny_models as tiny

assert type(bitsandbytes.cextension.lib).__name__ == "ErrorHandlerMockBNBNativeLibrary"

HERE = Path(__file__).resolve().parent
VOCAB = 61
NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXAONE_NAMES = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc_0", "c_fc_1", "c_proj"]


def config(kind, **changes):
    settings = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    settings.update(changes)
    return kind(**settings)


def load(folder, **options):
    if json.loads((folder / "config.json").read_text())["model_type"] == "exaone":
        return exaone.load(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def fill(shape, index):
    places = torch.arange(shape.numel()) * 7 + index * 13
    return ((places % 31).float() / 100 - 0.15).reshape(shape)


def loss(model, row):
    ids, continuation = row["input_ids"], row["continuation"]
    logits = model(torch.tensor([ids + continuation])).logits[0, len(ids) - 1 : -1]
    chosen = (logits / 0.8).log_softmax(-1).gather(-1, torch.tensor(continuation).unsqueeze(-1)).squeeze(-1)
    return (chosen * (0.3 - 0.11 * torch.arange(len(continuation)))).sum()


def measured(tensors):
    """Length, and the product with the formula's values, in f64."""
    return [
        [t.double().norm(), (t.double() * fill(t.shape, index).double()).sum()] for index, t in enumerate(tensors)
    ]


def adapted(folder, row):
    base = load(folder)
    names = EXAONE_NAMES if base.config.model_type == "llama" else NAMES
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=6, target_modules=names)).eval()
    modules = {name: module for name, module in base.named_modules() if name.rsplit(".")[-1] in names}
    assert len(modules) == 2 * len(names)
    factors = []
    for layer in range(2):
        for name in names:
            (module,) = [m for n, m in modules.items() if f".{layer}." in n and n.endswith(f".{name}")]
            factors += [module.lora_A["default"].weight, module.lora_B["default"].weight]
    with torch.no_grad():
        for index, factor in enumerate(factors):
            factor.copy_(fill(factor.shape, index))
        logits = model(torch.tensor([row["input_ids"]])).logits[0]
        assert (logits - row["logits"]).abs().max() > 0.1, "the adapter must matter"
    loss(model, row).backward()
    return logits, measured([factor.grad for factor in factors])


def weight_gradients(folder, row):
    model = load(folder)
    loss(model, row).backward()
    names, tensors = zip(*sorted(model.named_parameters()))
    return dict(zip(names, measured([tensor.grad for tensor in tensors])))


@torch.no_grad()
def quantised(folder, row):
    model = load(folder)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            packed, state = functional.quantize_4bit(
                module.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4"
            )
            module.weight.data = functional.dequantize_4bit(packed, state)
    return model(torch.tensor([row["input_ids"]])).logits[0]


def golden(folder, seed, note):
    result = tiny.golden(folder, seed, note, load=load, vocab=VOCAB)
    row = result["rows"][0]
    result["made_by"] = "make_families.py"
    result["adapted_logits"], result["gradients"] = adapted(folder, row)
    result["weight_gradients"] = weight_gradients(folder, row)
    result["nf4_logits"] = quantised(folder, row)
    print(folder.name, "4 bits move a logit by up to", float((result["nf4_logits"] - row["logits"]).abs().max()))
    golden_json.write(folder / "golden.json", result)


def random_model(settings, kind, seed):
    return tiny.random_model(settings, seed, kind).to(torch.bfloat16)


def main():
    torch.set_num_threads(1)

    folder = HERE / "tiny_mistral"
    settings = config(MistralConfig, head_dim=16, sliding_window=None)
    tiny.save(random_model(settings, MistralForCausalLM, seed=4), folder)
    assert json.loads((folder / "config.json").read_text())["sliding_window"] is None
    golden(folder, 14, "Mistral without a window")

    folder = HERE / "tiny_qwen2"
    settings = config(Qwen2Config, tie_word_embeddings=True, rms_norm_eps=1e-6)
    tiny.save(random_model(settings, Qwen2ForCausalLM, seed=5), folder, max_shard_size="24KB")
    saved = json.loads((folder / "config.json").read_text())
    assert "head_dim" not in saved and saved["use_sliding_window"] is False
    assert len(list(folder.glob("model-*.safetensors"))) >= 2
    golden(folder, 15, "biases on q, k and v, tied head, bf16 shards")

    folder = HERE / "tiny_qwen3"
    settings = config(Qwen3Config, head_dim=16, rms_norm_eps=1e-6)
    tiny.save(random_model(settings, Qwen3ForCausalLM, seed=6), folder)
    golden(folder, 16, "norms of heads, query width 64 for hidden 32")

    folder = HERE / "tiny_exaone"
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    settings = config(LlamaConfig, head_dim=8, rope_parameters=rope, tie_word_embeddings=True)
    exaone.save(exaone.from_llama(random_model(settings, LlamaForCausalLM, seed=7)), folder)
    golden(folder, 17, "transformers' Llama under EXAONE's names")


if __name__ == "__main__":
    main()
