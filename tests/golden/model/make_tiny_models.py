"""Makes tiny_llama/, tiny_llama_tied/ and tiny_llama_rope3/ with golden.json in each. The other families
are made by make_families.py.

    python tests/golden/model/make_tiny_models.py

Made with transformers 5.23.0, torch 2.15.0 (CPU, one thread), Python 3.11.

| folder            | what it pins                                                                        |
|-------------------|-------------------------------------------------------------------------------------|
| tiny_llama        | explicit head_dim (query width 64, hidden 32), untied head, one f32 file             |
| tiny_llama_tied   | tied head, bf16 weights in shards, `rope_parameters` and `dtype` (transformers v5)   |
| tiny_llama_rope3  | llama3 rope scaling, the older keys `rope_scaling`, `rope_theta`, `torch_dtype`      |

Every golden value is computed in float32 (bf16 weights are widened first), with eager attention.
Keys of golden.json, one entry a row: `input_ids`; `logits` [positions, vocab] of the whole row;
`greedy` 12 new tokens with a cache, end tokens ignored; `greedy_margin` the smallest gap between
best and second logit on that path; `continuation` and its log-probabilities given the row, at
temperature 1.0 and 0.7 (logits divided by the temperature before log-softmax).
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

import golden_json

HERE = Path(__file__).resolve().parent
VOCAB = 97
NEW_TOKENS = 12


def config(**changes):
    settings = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    settings.update(changes)
    return LlamaConfig(**settings)


def random_model(settings, seed, kind=LlamaForCausalLM):
    model = kind(settings).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Sorted so that the values do not depend on the order in which modules are declared.
        for name, tensor in sorted(model.named_parameters()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1.0 + 0.2 * noise if "norm" in name else 0.2 * noise)
    return model


def save(model, folder, **options):
    shutil.rmtree(folder, ignore_errors=True)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder, **options)


def rows(seed, vocab=VOCAB):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randint(3, vocab, (count,), generator=generator).tolist()
    return [draw(7), draw(13)], [draw(6), draw(9)]


@torch.no_grad()
def golden(folder, seed, note, load=AutoModelForCausalLM.from_pretrained, vocab=VOCAB):
    model = load(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None
    inputs, continuations = rows(seed, vocab)
    result = {"made_by": "make_tiny_models.py", "note": note, "rows": []}
    for ids, continuation in zip(inputs, continuations):
        logits = model(torch.tensor([ids])).logits[0]
        generated = model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=NEW_TOKENS, use_cache=True, pad_token_id=0
        )[0].tolist()[len(ids):]
        assert len(generated) == NEW_TOKENS
        full = model(torch.tensor([ids + generated])).logits[0, len(ids) - 1 : -1]
        assert full.argmax(-1).tolist() == generated, "cached decode differs from full forward"
        best = full.topk(2, dim=-1).values
        scored = model(torch.tensor([ids + continuation])).logits[0, len(ids) - 1 : -1]
        chosen = torch.tensor(continuation).unsqueeze(-1)
        log_probs = {
            temperature: (scored / float(temperature)).log_softmax(-1).gather(-1, chosen).squeeze(-1)
            for temperature in ("1.0", "0.7")
        }
        result["rows"].append(
            {
                "input_ids": ids,
                "greedy": generated,
                "greedy_margin": (best[:, 0] - best[:, 1]).min(),
                "continuation": continuation,
                "log_probs": log_probs,
                "logits": logits,
            }
        )
        print(folder.name, "logit std", float(logits.std()), "margin", float((best[:, 0] - best[:, 1]).min()))
    golden_json.write(folder / "golden.json", result)
    return result


def main():
    torch.set_num_threads(1)

    folder = HERE / "tiny_llama"
    save(random_model(config(), seed=1), folder)
    golden(folder, 11, "untied, float32, query width 64 for hidden 32")

    folder = HERE / "tiny_llama_tied"
    model = random_model(config(tie_word_embeddings=True), seed=2)
    save(model.to(torch.bfloat16), folder, max_shard_size="24KB")
    saved = json.loads((folder / "config.json").read_text())
    assert "rope_parameters" in saved and saved["dtype"] == "bfloat16" and "rope_theta" not in saved
    assert len(list(folder.glob("model-*.safetensors"))) >= 2
    golden(folder, 12, "tied head, bf16 shards, computed in float32")

    folder = HERE / "tiny_llama_rope3"
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    save(random_model(config(rope_parameters=rope), seed=3), folder)
    before = golden(folder, 13, "llama3 rope scaling in the older keys")
    # transformers v5 writes only the new spelling; rewrite the file in the older one and check
    # that transformers reads the same model from it.
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    rope = saved.pop("rope_parameters")
    saved["rope_theta"] = rope.pop("rope_theta")
    saved["rope_scaling"] = rope
    saved["torch_dtype"] = saved.pop("dtype")
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
    after = golden(folder, 13, "llama3 rope scaling in the older keys")
    assert golden_json.plain(before) == golden_json.plain(after)
    unscaled = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    unscaled.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    unscaled.model.rotary_emb = type(unscaled.model.rotary_emb)(unscaled.config)
    unscaled.requires_grad_(False)
    ids = after["rows"][1]["input_ids"]
    difference = (unscaled(torch.tensor([ids])).logits[0] - after["rows"][1]["logits"]).abs().max()
    print("rope scaling moves a logit by up to", float(difference))
    assert difference > 0.1, "the scaling must matter"


if __name__ == "__main__":
    main()
