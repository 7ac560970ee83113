"""Makes sampling.json: probabilities after transformers' own logits processors.

    python tests/golden/model/make_sampling.py

Made with transformers 5.23.0, torch 2.15.0 (CPU, one thread), Python 3.11.

The list of processors and its order come from `GenerationMixin._get_logits_processor`, not from
this script: `processors` in each case records the class names in the order transformers applies
them. Each of `rows` has a logit row and the token ids seen so far (prompt and completion), which the
repetition penalty reads. `probabilities` lists [token, probability] for tokens above zero, by token.
Row 5 has equal logits at a top-k border: transformers keeps all of them (more than k tokens).
Row 4 is peaked: one token has nearly all the mass. No case asks for top-p on equal logits.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

import golden_json

HERE = Path(__file__).resolve().parent
VOCAB = 97
SETTINGS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.5},
    {"top_k": 5},
    {"top_p": 0.9},
    {"top_p": 0.3},
    {"top_p": 0.001},
    {"min_p": 0.1},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"temperature": 0.6, "top_p": 0.95},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.75},
    {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2},
]


def main():
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(HERE / "tiny_llama", dtype=torch.float32)
    generator = torch.Generator().manual_seed(21)
    rows = []
    for index in range(6):
        # Two decimals: the file holds the logits exactly as they were used (up to f32 rounding).
        logits = (torch.randn(VOCAB, generator=generator) * (1.0 + 0.7 * index)).mul(100).round().div(100)
        # Equal logits only where a case is about them: nudge the others apart.
        seen = set()
        for token in range(VOCAB):
            while float(logits[token]) in seen:
                logits[token] = (logits[token] * 1000 + 3).round() / 1000
            seen.add(float(logits[token]))
        if index == 4:
            logits[17] = logits.max() + 12.0
        if index == 5:
            order = logits.argsort(descending=True)
            logits[order[3:7]] = float(logits[order[4]])
        history = torch.randint(0, VOCAB, (4 + 3 * index,), generator=generator)
        history = torch.cat([history, history[:2], logits.argmax().unsqueeze(0)])
        rows.append((history, logits))

    cases = []
    for setting in SETTINGS:
        settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": None, "repetition_penalty": 1.0, **setting}
        generation = GenerationConfig(do_sample=True, max_new_tokens=4, eos_token_id=None, pad_token_id=0, **settings)
        processors = model._get_logits_processor(
            generation_config=generation, input_ids_seq_length=8, device="cpu", model_kwargs={}
        )
        case = {**settings, "processors": [type(processor).__name__ for processor in processors], "probabilities": []}
        for index, (history, logits) in enumerate(rows):
            if index == 5 and settings["top_p"] < 1.0:
                case["probabilities"].append(None)  # the order among equal logits is not defined
                continue
            scores = processors(history.unsqueeze(0), logits.clone().unsqueeze(0))
            probabilities = scores.softmax(-1)[0]
            kept = probabilities.nonzero().squeeze(-1).tolist()
            case["probabilities"].append([[token, probabilities[token]] for token in kept])
        cases.append(case)
        print(case["processors"], [len(entry) if entry else None for entry in case["probabilities"]])
    golden_json.write(
        HERE / "sampling.json",
        {
            "made_by": "make_sampling.py",
            "rows": [{"history": history, "logits": golden_json.plain(logits, digits=6)} for history, logits in rows],
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
