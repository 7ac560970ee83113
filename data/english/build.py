#!/usr/bin/env python3
"""Writes train.json, eval.json, few_shot.json and instruct.json from sentences.json.

    python3 data/english/build.py [--out DIR]

Python 3.9 or later, standard library only; the same bytes on every machine.
The set is for SmolLM2-135M-Instruct: the format and the spelling rules are
simple enough that a few minutes of GRPO on a CPU show.
"""

import argparse
import hashlib
import json
import pathlib
import re

SEED = "moim-english-1"
QUESTION = '"{sentence}" Which one is right, and why?'
# "choice" is neither of the contest's two types, so only `prompt` is used.
INSTRUCT = {
    "prompt": (
        "You correct English sentences. Write the whole right sentence in quotation marks, "
        "followed by: is right. Then give the rule in one short sentence."
    ),
    "selection_prompt": "",
    "correction_prompt": "",
}
HERE = pathlib.Path(__file__).resolve().parent


def digest(*parts):
    text = "/".join([SEED, *map(str, parts)]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def item(number, sentence, right, rule):
    match = re.search(r"\{([^/{}]+)/([^/{}]+)\}", sentence)
    options = [match[1], match[2]]
    assert right in options and sentence.count("{") == 1, sentence
    if digest("order", sentence) % 2:
        options.reverse()
    asked = sentence.replace(match[0], "{" + "/".join(options) + "}")
    full = sentence.replace(match[0], right)
    return {
        "id": str(number),
        "input": {"question_type": "choice", "question": QUESTION.format(sentence=asked)},
        "output": {"answer": f'"{full}" is right. {rule}.'},
    }


def build(out):
    rules = json.loads((HERE / "sentences.json").read_text("utf-8"))
    number = 0
    for name in ("train", "eval", "few_shot"):
        rows = [(s, right, r["rule"]) for r in rules for s, right in r[name]]
        rows.sort(key=lambda row: digest(name, row[0]))
        records = [item(number + i, *row) for i, row in enumerate(rows, 1)]
        number += len(rows)
        lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in records)
        (out / f"{name}.json").write_bytes(f"[\n{lines}\n]\n".encode("utf-8"))
    text = json.dumps(INSTRUCT, ensure_ascii=False, indent=4) + "\n"
    (out / "instruct.json").write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="default: beside this file")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    build(arguments.out)
