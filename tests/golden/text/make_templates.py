"""Reference renderings for src/text/template.rs and token ids for src/text/tokenizer.rs.

    pip install transformers==5.23.0 jinja2 tokenizers
    python make_templates.py

Writes tokenizer/ (a small byte-level BPE trained on the Korean sentences of
mecab_morphs.json, all our own), tokenizer_ids.json and template_renderings.json. The
templates in templates/ are our own, in the style of the model families.
"""

import datetime
import json
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = [
    "<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "[|user|]", "[|assistant|]", "[|endofturn|]",
]
DATE = "2025-07-04"


def train_tokenizer():
    texts = [item["text"] for item in json.loads((HERE / "mecab_morphs.json").read_text("utf-8"))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 1)]
    )
    tokenizer.add_tokens([AddedToken("옳다", normalized=False)])
    # A file may ask for both; our reader must switch them off.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    folder = HERE / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": {"__type": "AddedToken", "content": "<|begin_of_text|>", "special": True},
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "unk_token": None,
                "clean_up_tokenization_spaces": False,
                "tokenizer_class": "PreTrainedTokenizerFast",
                "chat_template": [
                    {"name": "tool_use", "template": "not this one"},
                    {"name": "default", "template": (HERE / "templates/chatml_default_system.jinja").read_text("utf-8")},
                ],
            },
            ensure_ascii=False,
            indent=2,
        )
        + "\n",
        "utf-8",
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 6]}\n', "utf-8")
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 3}\n', "utf-8")
    return folder, texts


def token_ids(folder, texts):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    samples = texts[::7] + [
        "<|im_start|>user\n[질문]: 무엇이 옳다?<|im_end|>\n<|im_start|>assistant\n",
        "\"이제 집에 가도 돼요.\"가 옳다. '되어'가 줄면 '돼'로 적는다.",
        "  leading and trailing  ",
        "1234 and ½",
        "",
    ]
    rows = []
    for text in samples:
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append(
            {
                "text": text,
                "ids": plain,
                "ids_with_special": tokenizer.encode(text, add_special_tokens=True).ids,
                "decoded": tokenizer.decode(plain, skip_special_tokens=False),
                "decoded_without_special": tokenizer.decode(plain, skip_special_tokens=True),
            }
        )
    write_rows("tokenizer_ids.json", rows)


CONVERSATIONS = [
    [("user", "오늘은 왠지/웬지 기분이 좋다. 무엇이 옳은가?")],
    [("system", "  너는 맞춤법 도우미다.\n"), ("user", " 질문이다. \n")],
    [
        ("system", "규칙을 지킨다."),
        ("user", "[질문]: \"되요\"와 '돼요' <b>&amp;</b>"),
        ("assistant", "<think>\n생각한다.\n</think>\n\n\"돼요\"가 옳다. {{ 이유 }} {% if %}"),
        ("user", "다음 문장을 고쳐라.\n\"할수 있다\"\\n 😀"),
        ("assistant", "\"할 수 있다\"가 옳다."),
        ("user", "끝"),
    ],
    [("user", "하나 둘"), ("assistant", "셋 넷")],
    [("user", "a"), ("user", "b")],
]
KWARGS = [{}, {"enable_thinking": False}, {"merge_system": True, "temperature": 0.5, "items": ["가", 1, None, {"k": 1e-05}]}]


def renderings(folder):
    day = datetime.datetime.fromisoformat(DATE)

    class FixedDateTime(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return day

    chat_template_utils.datetime = FixedDateTime
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    rows = []
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = path.read_text("utf-8")
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            for add_generation_prompt in (False, True):
                for date_string in (None, DATE):
                    for kwargs in KWARGS:
                        row = {
                            "template": path.name,
                            "messages": messages,
                            "add_generation_prompt": add_generation_prompt,
                            "date_string": date_string,
                            "kwargs": kwargs,
                        }
                        pinned = {} if date_string is None else {"date_string": date_string}
                        try:
                            row["rendered"] = tokenizer.apply_chat_template(
                                messages,
                                chat_template=template,
                                tokenize=False,
                                add_generation_prompt=add_generation_prompt,
                                **pinned,
                                **kwargs,
                            )
                        except Exception as error:
                            row["error"] = str(error)
                        if date_string is None and "strftime_now(" in template:
                            continue  # depends on the day it is run
                        rows.append(row)
    # Rows that say the same as an earlier one with other options are left out.
    kept, seen = [], set()
    for row in rows:
        key = json.dumps([row["template"], row["messages"], row.get("rendered"), row.get("error")])
        if key not in seen:
            seen.add(key)
            kept.append(row)
    default = tokenizer.apply_chat_template([{"role": "user", "content": "기본"}], tokenize=False)
    kept.append(
        {
            "template": None,
            "messages": [{"role": "user", "content": "기본"}],
            "add_generation_prompt": False,
            "date_string": None,
            "kwargs": {},
            "rendered": default,
        }
    )
    write_rows("template_renderings.json", kept)


def write_rows(name, rows):
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (HERE / name).write_text(f"[\n{lines}\n]\n", "utf-8")
    print(name, len(rows), "rows")


def main():
    folder, texts = train_tokenizer()
    token_ids(folder, texts)
    renderings(folder)


main()
