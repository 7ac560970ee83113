"""Makes smollm2.json: what transformers does with models/SmolLM2-135M-Instruct.

    python scripts/fetch_smollm2.py
    python tests/golden/model/make_smollm2.py

Made with transformers 5.23.0, torch 2.15.0 (CPU, one thread), Python 3.11, from the folder that
scripts/fetch_smollm2.py makes; bf16 weights widened to float32, eager attention.

`chats`, one a conversation: `messages`; `prompt` the rendered template with a generation prompt;
`input_ids`; `greedy` 24 new tokens (fewer where the model ends its turn, which then is the last) and
`text`; `greedy_margin` the smallest gap between the best and the second logit on that path;
`top_logits` [token, logit] of the 10 best at the prompt's last position. `tokens`: text to ids, no
special tokens added, each of which decodes to the text again.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import golden_json

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[2] / "models" / "SmolLM2-135M-Instruct"
CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer with one word."},
        {"role": "user", "content": "Which is larger, 12 or 7?"},
    ],
    [{"role": "user", "content": "Tell me a short story about a dog who lost his ball."}],
]
TEXTS = [
    "Hello, world!",
    "In 2024 there were 1,305 of them:   42%",
    "  two spaces before,  two between, don't stop\n\n\tand a tab",
    "x   12\n  34",
    "맞춤법을 교정하세요. “돼요”가 옳다.",
    "naïve café 😀",
    "<|im_start|>user\nhi<|im_end|>\n",
]


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    chats = []
    for messages in CHATS:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        output = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=24, use_cache=True)[0]
        greedy = output[len(ids):].tolist()
        logits = model(output.unsqueeze(0)).logits[0, len(ids) - 1 : -1]
        assert logits.argmax(-1).tolist() == greedy, "cached decode differs from full forward"
        best = logits.topk(2, dim=-1).values
        top = logits[0].topk(10)
        chats.append(
            {
                "messages": messages,
                "prompt": prompt,
                "input_ids": ids,
                "greedy": greedy,
                "text": tokenizer.decode(greedy, skip_special_tokens=True),
                "greedy_margin": (best[:, 0] - best[:, 1]).min(),
                "top_logits": [[token, logit] for token, logit in zip(top.indices.tolist(), top.values.tolist())],
            }
        )
        print(repr(chats[-1]["text"]), greedy, float(chats[-1]["greedy_margin"]), flush=True)
    tokens = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text, text
        tokens.append({"text": text, "input_ids": ids})
    golden_json.write(HERE / "smollm2.json", {"made_by": "make_smollm2.py", "chats": chats, "tokens": tokens})


if __name__ == "__main__":
    main()
