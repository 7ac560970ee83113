"""Makes codec.safetensors and codec.json here, and the folders plain/ and nf4/ of a tiny Llama.

    OMP_NUM_THREADS=1 python tests/golden/nf4/make_nf4.py

Made with bitsandbytes 0.50.2, torch 2.15.0 (CPU, one thread), transformers 5.23.0, accelerate 1.15.0,
Python 3.11.

bitsandbytes runs here without its native library, so that its default backend in torch does all the
work. Its C++ code for the CPU looks scales up approximately and takes a neighbouring 8-bit code for one
in some hundred; the default backend and CUDA do not. One thread, because torch's mean depends on their number.

codec.json: `thresholds`, `dynamic_map`: crc32 of the f32. `means`: torch.mean by count. `cases`, each with `rows`, `columns`, `dtype`:

| key | what |
|---|---|
| `drawn` | a seed: the input is `draw(seed, rows * columns)` below, in that type; else it is `<case>.input` |
| `packed`, `absmax`, `weights`, `codes`, `nested`, `double_weights` | crc32 of what bitsandbytes makes: codes, scales and dequantised weights (f32) without double quantisation; 8-bit codes, their scales and weights with it |
| `offset` | the mean of the scales |
| `state` | the JSON of quant_state with double quantisation |

codec.safetensors has codes and scales of the cases that are small, so that a difference shows where it is.

plain/: Llama with random weights in bf16. nf4/: the same, loaded in float32 by transformers with
BitsAndBytesConfig(load_in_4bit=True, nf4, double quantisation) and saved by save_pretrained. golden.json
in each: `rows` with `input_ids` and `logits` [positions, vocab], computed in float32.
"""

import ctypes
import json
import os
import shutil
import sys
import zlib
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "model"))

import numpy
import torch

torch.set_num_threads(1)


def refuse(path, load=ctypes.cdll.LoadLibrary):
    if "bitsandbytes" in str(path):
        raise OSError("left out, see above")
    return load(path)


ctypes.cdll.LoadLibrary = refuse
import bitsandbytes
from bitsandbytes import functional
from bitsandbytes.backends.default.ops import _get_4bit_quantize_bounds
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

import golden_json

assert type(bitsandbytes.cextension.lib).__name__ == "ErrorHandlerMockBNBNativeLibrary"


def draw(seed, count):
    """Sums of four hashes of the place, near a normal distribution of deviation 0.023; exact in any language."""
    place = numpy.arange(4 * count, dtype=numpy.uint64) + numpy.uint64(seed << 32)
    mixed = (place ^ (place >> numpy.uint64(31))) * numpy.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> numpy.uint64(29))) * numpy.uint64(0xBF58476D1CE4E5B9)
    sums = (mixed >> numpy.uint64(40)).reshape(count, 4).sum(axis=1)
    return ((sums.astype(numpy.float64) - 2.0**25) / 2.0**25 * 0.08).astype(numpy.float32)


def crc(tensor):
    return f"{zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()):08x}"


def quantised(weight, double):
    packed, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=double, quant_type="nf4")
    # Dequantised in f32 whatever the type of the weights; bitsandbytes casts last.
    state.dtype = torch.float32
    weights = functional.dequantize_4bit(packed, state)
    state.dtype = weight.dtype
    return packed, state, weights


def case(name, weight, tensors, drawn=None):
    packed, plain, weights = quantised(weight, False)
    double_packed, double, double_weights = quantised(weight, True)
    assert torch.equal(packed, double_packed)
    stored = double.as_dict(packed=True)
    parts = {
        "packed": packed,
        "absmax": plain.absmax,
        "weights": weights,
        "codes": double.absmax,
        "nested": double.state2.absmax,
        "double_weights": double_weights,
    }
    entry = {"rows": weight.shape[0], "columns": weight.shape[1], "dtype": str(weight.dtype).removeprefix("torch.")}
    if drawn is None:
        tensors[f"{name}.input"] = weight
    else:
        entry["drawn"] = drawn
    if weight.numel() < 1000:
        tensors.update({f"{name}.{part}": parts[part].clone() for part in ("packed", "absmax", "codes", "nested")})
    entry.update({part: crc(value) for part, value in parts.items()})
    entry["offset"] = double.offset.item()
    entry["state"] = bytes(stored["quant_state.bitsandbytes__nf4"].numpy()).decode()
    return entry


def codec():
    tensors, cases = {}, {}

    def given(name, values, columns, dtype=torch.float32):
        weight = torch.tensor(values, dtype=torch.float32).to(dtype).reshape(-1, columns)
        cases[name] = case(name, weight, tensors)

    def drawn(name, seed, rows, columns, dtype=torch.float32):
        weight = torch.from_numpy(draw(seed, rows * columns)).to(dtype).reshape(rows, columns)
        cases[name] = case(name, weight, tensors, seed)

    given("one", [-0.25], 1)
    given("zeros", [0.0] * 130, 130)
    given("zero_blocks", [0.0] * 64 + [-0.0] * 64 + draw(1, 64).tolist() + [0.0] * 32, 32)
    given("outliers", [v * (1000 if i % 61 == 7 else 1) for i, v in enumerate(draw(2, 320).tolist())], 40)
    smallest = 2.0**-149
    given("denormals", [(i * 37 % 101 - 50) * smallest for i in range(64)]
          + [(i * 37 % 101 - 50) * 2.0**-133 for i in range(64)]
          + [(i * 37 % 101 - 50) * 2.0**-126 for i in range(64)] + [smallest, -smallest, 0.0], 5)
    given("largest", [(i * 37 % 101 - 50) / 50 * 3.4028234663852886e38 / (1 if i < 64 else 1e30) for i in range(128)], 16)
    bounds = _get_4bit_quantize_bounds("nf4", torch.device("cpu"))[0]
    near = torch.cat([bounds, bounds.nextafter(torch.tensor(2.0)), bounds.nextafter(torch.tensor(-2.0))])
    given("ties", [1.0, *near.tolist(), *functional.get_4bit_type("nf4", device="cpu").tolist(), 0.5, -0.5], 8)
    # A short block is divided by its scale, a whole one multiplied by the inverse: values that tell which.
    scale = torch.tensor(0.7)
    spread = (bounds[:, None] * scale).expand(-1, 9).clone()
    for column in range(1, 9):
        spread[:, column] = spread[:, column - 1].nextafter(torch.tensor(2.0))
    spread = spread.flatten()
    told = torch.bucketize(spread / scale, bounds) != torch.bucketize(spread * (1 / scale), bounds)
    telling = spread[told].tolist()
    assert telling, "no value tells them apart"
    given("division", [0.7, *telling], 1)
    drawn("short", 3, 3, 13)
    drawn("odd", 4, 7, 37)
    drawn("bfloat16", 5, 5, 64, torch.bfloat16)
    drawn("float16", 6, 9, 71, torch.float16)
    drawn("short_nested", 7, 300, 130)
    drawn("full_nested", 8, 128, 256, torch.bfloat16)
    drawn("key", 9, 1024, 2048, torch.bfloat16)
    drawn("down", 10, 2048, 5632, torch.bfloat16)
    drawn("embedding", 11, 9973, 1536)
    # Absolute values of draw(12, …), of as many counts as take their own way through torch's sum.
    magnitudes = torch.from_numpy(draw(12, 300_000)).abs()
    counts = [*range(1, 40), 63, 64, 511, 512, 513, 2047, 2048, 2049, 5003, 20_000, 65_536, 131_072, 299_999]
    golden_json.write(
        HERE / "codec.json",
        {
            "made_by": "make_nf4.py",
            "thresholds": crc(bounds),
            "dynamic_map": crc(functional.create_dynamic_map()),
            "means": {count: magnitudes[:count].mean().item() for count in counts},
            "cases": cases,
        },
        digits=17,
    )
    save_file(tensors, HERE / "codec.safetensors")


def llama():
    settings = LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = LlamaForCausalLM(settings).eval()
    generator = torch.Generator().manual_seed(21)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1.0 + 0.2 * noise if "norm" in name else 0.15 * noise)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    plain, nf4 = HERE / "plain", HERE / "nf4"
    for folder in (plain, nf4):
        shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(plain)
    wanted = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    load = dict(dtype=torch.float32, attn_implementation="eager", device_map="cpu")
    small = AutoModelForCausalLM.from_pretrained(plain, quantization_config=wanted, **load)
    small.save_pretrained(nf4)
    golden(plain, **load)
    before = golden(nf4, **load)
    assert torch.equal(before, logits(small.eval(), ids()[0])), "saved and read back differently"


def ids():
    generator = torch.Generator().manual_seed(22)
    return [torch.randint(3, 128, (1, count), generator=generator) for count in (2, 4)]


@torch.no_grad()
def logits(model, row):
    return model(row).logits[0]


def golden(folder, **load):
    model = AutoModelForCausalLM.from_pretrained(folder, **load).eval()
    rows = [{"input_ids": row[0].tolist(), "logits": logits(model, row)} for row in ids()]
    golden_json.write(folder / "golden.json", {"made_by": "make_nf4.py", "rows": rows}, digits=7)
    print(folder.name, "logit deviation", rows[0]["logits"].std().item())
    return rows[0]["logits"]


if __name__ == "__main__":
    codec()
    llama()
