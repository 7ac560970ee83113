"""EXAONE 3 and 3.5 out of transformers' Llama: the same modules and arithmetic under EXAONE's names.

transformers has no class for `model_type` "exaone"; the checkpoints bring remote code
(modeling_exaone.py of LGAI-EXAONE). Its arithmetic is Llama's, and its names are those below, as
llama.cpp's and vLLM's loaders map them:

    transformer.wte                         model.embed_tokens
    transformer.h.{i}.ln_1, .ln_2           model.layers.{i}.input_layernorm, .post_attention_layernorm
    transformer.h.{i}.attn.attention.*      model.layers.{i}.self_attn.* (out_proj for o_proj)
    transformer.h.{i}.mlp.c_fc_0, .c_fc_1   gate_proj, up_proj; .c_proj is down_proj
    transformer.ln_f, lm_head               model.norm, lm_head

The modules are moved, not copied: what they are called here is what state_dict and PEFT see, and
Llama's forward pass finds them through properties.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

KEYS = {"num_hidden_layers": "num_layers", "rms_norm_eps": "layer_norm_epsilon", "hidden_act": "activation_function"}


def renamed(kind, **names):
    """A subclass of `kind` in which the module `new` also answers to `old`, for each old=new."""
    def finder(new):
        def find(self):
            for part in new.split("."):
                self = getattr(self, part)
            return self

        return property(find)

    return type(f"Exaone{kind.__name__}", (kind,), {old: finder(new) for old, new in names.items()} | {"names": names})


ATTENTION = renamed(modeling_llama.LlamaAttention, o_proj="out_proj")
MLP = renamed(modeling_llama.LlamaMLP, gate_proj="c_fc_0", up_proj="c_fc_1", down_proj="c_proj")
LAYER = renamed(
    modeling_llama.LlamaDecoderLayer,
    input_layernorm="ln_1", post_attention_layernorm="ln_2", self_attn="attn.attention",
)
MODEL = renamed(modeling_llama.LlamaModel, embed_tokens="wte", layers="h", norm="ln_f")
CAUSAL = renamed(LlamaForCausalLM, model="transformer")


def rename(module, kind):
    for old, new in kind.names.items():
        moved = module._modules.pop(old)
        *outer, last = new.split(".")
        holder = module
        for part in outer:
            holder._modules.setdefault(part, nn.Module())
            holder = holder._modules[part]
        holder._modules[last] = moved
    module.__class__ = kind


def from_llama(llama):
    """Renames the modules of a LlamaForCausalLM, which becomes an EXAONE."""
    for layer in llama.model.layers:
        rename(layer.self_attn, ATTENTION)
        rename(layer.mlp, MLP)
        rename(layer, LAYER)
    rename(llama.model, MODEL)
    rename(llama, CAUSAL)
    # Last again, so that a tied weight goes by the embedding's name.
    llama._modules["lm_head"] = llama._modules.pop("lm_head")
    return llama


def save(model, folder):
    """config.json and model.safetensors as LGAI-EXAONE's folders have them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = model.config
    saved = {KEYS.get(key, key): getattr(settings, key) for key in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act", "max_position_embeddings",
        "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )}
    rope = dict(settings.rope_parameters)
    saved |= {"architectures": ["ExaoneForCausalLM"], "model_type": "exaone", "embed_dropout": 0.0,
              "rope_theta": rope.pop("rope_theta"), "rope_scaling": rope,
              "torch_dtype": str(model.dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if settings.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder, **_):
    """The model of such a folder in float32, with eager attention."""
    saved = json.loads((Path(folder) / "config.json").read_text())
    back = {new: old for old, new in KEYS.items()}
    settings = {back.get(key, key): value for key, value in saved.items()}
    rope = settings.pop("rope_scaling", None) or {"rope_type": "default"}
    rope |= {"rope_theta": settings.pop("rope_theta")}
    for key in ("architectures", "model_type", "embed_dropout", "torch_dtype"):
        settings.pop(key, None)
    llama = LlamaForCausalLM(LlamaConfig(**settings, rope_parameters=rope, attn_implementation="eager")).float()
    model = from_llama(llama)
    tensors = {name: tensor.float() for name, tensor in load_file(Path(folder) / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    assert not missing or settings["tie_word_embeddings"]
    return model.eval()
