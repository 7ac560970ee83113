"""Recomputes the three columns of rouge_vectors.json that tests/metric.rs reads.

    pip install python-mecab-ko==1.3.7 python-mecab-ko-dic==2.1.1.post2
    python tests/golden/metric/rouge_vectors.py            # compare with the file
    python tests/golden/metric/rouge_vectors.py --write    # rewrite the three columns

The texts are our own. The other columns (korouge-score, rouge, rouge-score,
rouge-metric; versions under "meta") are kept as they are, for comparison.
"""

import collections
import json
import pathlib
import re
import sys

import mecab

PATH = pathlib.Path(__file__).with_name("rouge_vectors.json")
MECAB = mecab.MeCab()


def clean(text):
    """The contest's cleaning: 1000 words, lower case, only Latin, digits, Hangul."""
    words = " ".join(text.split()[:1000])
    return re.sub("[^A-Za-z0-9가-힣]", " ", words.lower()).strip()


def morphemes(text):
    return " ".join(MECAB.morphs(clean(text))).split()


TOKENS = {
    "contest_mecab": morphemes,
    "contest_use_tokenizer_false_syllable": lambda text: " ".join(clean(text)).split(),
    "clean_eojeol": lambda text: clean(text).split(),
}


def f1(candidate, reference, alpha=0.5):
    overlap = sum((collections.Counter(candidate) & collections.Counter(reference)).values())
    if overlap == 0:
        return 0.0
    precision, recall = overlap / len(candidate), overlap / len(reference)
    return precision * recall / ((1 - alpha) * precision + alpha * recall)


def main():
    golden = json.loads(PATH.read_text(encoding="utf-8"))
    differences = 0
    for vector in golden["vectors"]:
        sides = ("reference", "candidate")
        tokens = {side: morphemes(vector[side]) for side in sides}
        differences += tokens != vector["contest_mecab_tokens"]
        vector["contest_mecab_tokens"] = tokens
        for column, tokenize in TOKENS.items():
            value = f1(tokenize(vector["candidate"]), tokenize(vector["reference"]))
            differences += abs(value - vector["rouge1_f"][column]) > 1e-12
            vector["rouge1_f"][column] = value
    print(f"{len(golden['vectors'])} vectors, {differences} differences")
    if "--write" in sys.argv[1:]:
        text = json.dumps(golden, ensure_ascii=False, indent=1)
        PATH.write_text(text + "\n", encoding="utf-8")
        return 0
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
