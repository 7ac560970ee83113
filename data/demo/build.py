#!/usr/bin/env python3
"""Writes the demo's data files from sentences.json and templates.json.

    python3 data/demo/build.py            # writes beside this file
    python3 data/demo/build.py --out DIR  # writes elsewhere (to compare)

Python 3.9 or later, standard library only. The same sources and the same
constants give the same bytes on every machine: all draws come from BLAKE2
over (SEED, a name, a counter), not from a library's random generator.
"""

import argparse
import hashlib
import json
import pathlib
import re
import unicodedata

SEED = "moim-demo-1"

# Each pair has (usually) eight sentences: the first TRAIN go to train.json,
# the next EVAL to eval.json, the last one to few_shot.json.
TRAIN, EVAL = 5, 2

# Question-answer items of the warm-up corpus for each pair, before noise: with
# sentences from templates, and with the pair's word among words and syllables in
# random order. A model of this size recalls templates by heart; only what cannot be
# recalled teaches it to copy the sentence that is asked about.
ITEMS_PER_PAIR = 96
SCRAMBLED_PER_PAIR = 112
# Of the templated sentences, the share that gets a lead clause in front.
LEAD_SHARE = 0.6
# Of those lead clauses, the share built on the list of rarer nouns (slot N):
# it is there so that no syllable of the evaluation set is new to the model.
NOUN_LEAD_SHARE = 0.4
# No sentence of the warm-up corpus is longer than this many characters.
MAX_SENTENCE = 34
# Share of the warm-up items that ask for a correction; the rest ask to choose.
CORRECTION_SHARE = 0.5

# The noisy teacher. For each kind of noise: the share of pairs the teacher is
# set in the habit on ("inside"), the rate of the noise on those pairs, and the
# rate on all the others. The habit pairs of different kinds do not overlap.
# Overall rate = share * inside + (1 - share) * outside. A habit rate above one
# half is what a greedy answer of the trained model shows; a rate below it is
# only seen when sampling.
#   wrong_variant  the sentence is given with the wrong spelling      (32 %)
#   no_quotes      the sentence is given without quotation marks      ( 9 %)
#   no_form        "정답은 … 이다." instead of "…"가 옳다.              ( 9 %)
#   other_reason   the rule of another pair is given as the reason    ( 7 %)
NOISE = {
    "wrong_variant": {"share": 0.40, "inside": 0.62, "outside": 0.12},
    "no_quotes": {"share": 0.12, "inside": 0.62, "outside": 0.02},
    "no_form": {"share": 0.12, "inside": 0.62, "outside": 0.02},
    "other_reason": {"share": 0.10, "inside": 0.55, "outside": 0.016},
}

# Plain sentences a pair contributes to corpus_text.txt, besides its own.
TEXT_LINES_PER_PAIR = 36

SELECTION = '"{sentence}" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
CORRECTION = (
    "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, "
    '그 이유를 설명하세요.\n"{sentence}"'
)
# The system prompt is prompt + (selection_prompt | correction_prompt), joined
# as they are, so `prompt` ends with a space.
INSTRUCT = {
    "prompt": "한국어 어문 규범에 따라 답하세요. ",
    "selection_prompt": "둘 가운데 하나를 고르세요.",
    "correction_prompt": "틀린 곳을 고치세요.",
}

HERE = pathlib.Path(__file__).resolve().parent


class Draw:
    """A small generator that gives the same draws everywhere."""

    def __init__(self, *name):
        self.name = "/".join([SEED, *map(str, name)])
        self.counter = 0

    def below(self, n):
        """A whole number in 0..n."""
        self.counter += 1
        text = f"{self.name}/{self.counter}".encode()
        value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return value % n

    def chance(self, share):
        return self.below(1_000_000) < share * 1_000_000

    def choice(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


# ---------- Korean ----------


def has_final(text):
    """Whether the last Hangul syllable of the text ends in a consonant."""
    for c in reversed(text):
        if "가" <= c <= "힣":
            return (ord(c) - 0xAC00) % 28 != 0
    raise ValueError(f"no Hangul in {text!r}")


JOSA = {"은": "은는", "이": "이가", "을": "을를", "과": "과와"}


def with_josa(word, josa):
    pair = JOSA.get(josa)
    if pair is None:
        return word + josa
    return word + (pair[0] if has_final(word) else pair[1])


# ---------- questions and answers ----------


def wrong_sentence(pair, sentence):
    return sentence.replace(pair["right"], pair["wrong"])


def question(pair, sentence, kind, wrong_first):
    if kind == "교정형":
        return CORRECTION.format(sentence=wrong_sentence(pair, sentence))
    options = [pair["wrong"], pair["right"]]
    if not wrong_first:
        options.reverse()
    braces = "{" + "/".join(options) + "}"
    return SELECTION.format(sentence=sentence.replace(pair["right"], braces))


def answer(sentence, reason):
    return f'"{sentence}"' + ("이" if has_final(sentence) else "가") + f" 옳다. {reason}"


def reason(pair):
    return pair["rule"] + "."


def label(pair, sentence):
    """The answer of an evaluation item; other allowed spellings join with '#'."""
    forms = [sentence] + [sentence.replace(pair["right"], a) for a in pair["also"]]
    quoted = "#".join(f'"{f}"' for f in forms)
    return quoted + ("이" if has_final(sentence) else "가") + f" 옳다. {reason(pair)}"


def record(number, kind, text, answer_text):
    return {
        "id": str(number),
        "input": {"question_type": kind, "question": text},
        "output": {"answer": answer_text},
    }


# ---------- templated sentences ----------

SLOT = re.compile(r"\{([A-Z])(?::([가-힣]+))?\}")
CHOICE = re.compile(r"\[([^\]]+)\]")


def fill(frame, slots, draw):
    used = set()

    def word(match):
        while True:
            value = draw.choice(slots[match[1]])
            if value not in used:
                break
        used.add(value)
        return with_josa(value, match[2]) if match[2] else value

    text = CHOICE.sub(lambda m: draw.choice(m[1].split("|")), frame)
    return SLOT.sub(word, text)


def acceptable(pair, sentence, forbidden):
    return (
        sentence.count(pair["right"]) == 1
        and pair["wrong"] not in sentence
        and len(sentence) <= MAX_SENTENCE
        and not any(f in sentence for f in forbidden)
    )


def varied(pair, templates, forbidden, name):
    """An endless stream of distinct templated sentences of one pair."""
    draw = Draw(name, pair["right"])
    frames = templates["frames"][pair["right"]]
    seen, idle = set(), 0
    while idle < 2000:
        if draw.below(4) == 0:
            text = draw.choice(pair["sentences"][:TRAIN])
            lead = True
        else:
            text = fill(draw.choice(frames), templates["slots"], draw)
            lead = draw.chance(LEAD_SHARE)
        if lead:
            kind = "noun_leads" if draw.chance(NOUN_LEAD_SHARE) else "leads"
            text = fill(draw.choice(templates[kind]), templates["slots"], draw) + " " + text
        if text in seen or not acceptable(pair, text, forbidden):
            idle += 1
            continue
        idle = 0
        seen.add(text)
        yield text


def scrambled(pair, pairs, forbidden, name):
    """An endless stream of the pair's word among others that have nothing to do with it."""
    draw = Draw(name, pair["right"])
    lines = [sentence for p in pairs for sentence in p["sentences"][:TRAIN]]
    words = sorted({word.strip(".?!,") for line in lines for word in line.split()} - {""})
    syllables = sorted({c for line in lines for c in line if "가" <= c <= "힣"})
    mark = "\0"
    chunks = []
    for sentence in pair["sentences"][:TRAIN]:
        chunks += [w.strip(".?!,") for w in sentence.replace(pair["right"], mark).split() if mark in w]

    def filler(nonsense):
        if nonsense:
            return "".join(draw.choice(syllables) for _ in range(1 + draw.below(4)))
        return draw.choice(words)

    seen = set()
    while True:
        nonsense = draw.chance(0.5)
        before = [filler(nonsense) for _ in range(draw.below(4))]
        after = [filler(nonsense) for _ in range(draw.below(4))]
        text = " ".join([*before, draw.choice(chunks).replace(mark, pair["right"]), *after]) + "."
        if text not in seen and acceptable(pair, text, forbidden):
            seen.add(text)
            yield text


# ---------- the noisy teacher ----------


def habits(pairs):
    """For each pair the kind of noise it is in the habit of, or None."""
    order = Draw("habits").shuffled([p["right"] for p in pairs])
    chosen, start = {}, 0.0
    for kind, rates in NOISE.items():
        end = start + rates["share"] * len(order)
        for right in order[round(start) : round(end)]:
            chosen[right] = kind
        start = end
    return chosen


def noise_plan(pair, count, habit, draw):
    """The noise of each of the pair's items: exact shares, shuffled places."""
    plan, start = [], 0.0
    offset = draw.below(1000) / 1000  # spreads the rounding over the pairs
    for kind, rates in NOISE.items():
        end = start + rates["inside" if habit == kind else "outside"] * count
        plan += [kind] * (int(end + offset) - int(start + offset))
        start = end
    plan = plan[:count] + [None] * (count - len(plan))
    return draw.shuffled(plan)


def noisy(pair, other, sentence, kind):
    if kind is None:
        return answer(sentence, reason(pair))
    if kind == "wrong_variant":
        return answer(wrong_sentence(pair, sentence), reason(pair))
    if kind == "no_quotes":
        return answer(sentence, reason(pair)).replace('"', "", 2)
    if kind == "no_form":
        return f"정답은 {sentence.rstrip('.?!')} 이다. {reason(pair)}"
    if kind == "other_reason":
        return answer(sentence, reason(other))
    raise ValueError(kind)


def warm_up(pairs, templates, forbidden):
    items, habit = [], habits(pairs)
    for pair in pairs:
        draw = Draw("warm-up", pair["right"])
        asked, is_scrambled = {}, set()
        for sentence in pair["sentences"][:TRAIN]:
            for kind, first in (("교정형", True), ("선택형", True), ("선택형", False)):
                asked[question(pair, sentence, kind, first)] = (kind, sentence)
        for sentence in varied(pair, templates, forbidden, "warm-up sentences"):
            kind = "교정형" if draw.chance(CORRECTION_SHARE) else "선택형"
            asked[question(pair, sentence, kind, draw.chance(0.5))] = (kind, sentence)
            if len(asked) >= ITEMS_PER_PAIR:
                break
        for sentence in scrambled(pair, pairs, forbidden, "scrambled"):
            kind = "교정형" if draw.chance(CORRECTION_SHARE) else "선택형"
            text = question(pair, sentence, kind, draw.chance(0.5))
            asked[text] = (kind, sentence)
            is_scrambled.add(text)
            if len(asked) >= ITEMS_PER_PAIR + SCRAMBLED_PER_PAIR:
                break
        # A teacher in the habit of a wrong reason always gives the same one.
        others = [p for p in pairs if p["rule"] != pair["rule"]]
        usual = others[Draw("other", pair["right"]).below(len(others))]
        plan = noise_plan(pair, len(asked), habit.get(pair["right"]), draw)
        for (text, (kind, sentence)), noise in zip(asked.items(), plan):
            in_habit = habit.get(pair["right"]) == "other_reason"
            other = usual if in_habit else draw.choice(others)
            item = record(0, kind, text, noisy(pair, other, sentence, noise))
            item["noise"] = noise or "none"
            item["scrambled"] = text in is_scrambled
            items.append(item)
    items = Draw("warm-up order").shuffled(items)
    for number, item in enumerate(items, 1):
        item["id"] = str(number)
    return items


# ---------- plain text ----------


def rule_lines(pair):
    wrong, right, rule = pair["wrong"], pair["right"], pair["rule"]
    lines = [
        f"{rule}.",
        f"옳은 표기는 '{right}'이다.",
        f"{with_josa(chr(39) + wrong + chr(39), '은')} 잘못된 표기이다.",
        f"'{wrong}'{'이' if has_final(wrong) else '가'} 아니라 "
        f"'{right}'{'으로' if has_final(right) and final(right) != 8 else '로'} 적는다. {rule}.",
        f"{rule}. 따라서 '{right}'{'을' if has_final(right) else '를'} 쓴다.",
        f"'{wrong}'{'을' if has_final(wrong) else '를'} "
        f"'{right}'{'으로' if has_final(right) and final(right) != 8 else '로'} 고쳐야 한다.",
        f"{pair['kind']} 문제이다. {rule}.",
    ]
    if pair["clause"]:
        lines.append(f"{pair['clause']}에 따라, {rule}.")
        lines.append(f"'{right}'의 표기는 {pair['clause']}에서 정한다.")
    return lines


def final(text):
    """The number of the last syllable's final consonant (8 is ㄹ)."""
    last = [c for c in text if "가" <= c <= "힣"][-1]
    return (ord(last) - 0xAC00) % 28


def plain_text(pairs, templates, forbidden):
    lines = []
    for pair in pairs:
        lines += rule_lines(pair)
        lines += pair["sentences"][:TRAIN]
        stream = varied(pair, templates, forbidden, "text sentences")
        lines += [s for s, _ in zip(stream, range(TEXT_LINES_PER_PAIR))]
    return Draw("text order").shuffled(dict.fromkeys(lines))


# ---------- the files ----------


def build(out):
    pairs = json.loads((HERE / "sentences.json").read_text("utf-8"))
    templates = json.loads((HERE / "templates.json").read_text("utf-8"))
    train, evaluation, few_shot, forbidden = [], [], [], []
    for number, pair in enumerate(pairs):
        draw = Draw("questions", pair["right"])
        sentences = pair["sentences"]
        for place, sentence in enumerate(sentences):
            # Types alternate inside a pair and from pair to pair.
            kind = ("선택형", "교정형")[(place + number) % 2]
            text = question(pair, sentence, kind, draw.chance(0.5))
            if place < TRAIN:
                train.append((kind, text, answer(sentence, reason(pair))))
            elif place < TRAIN + EVAL:
                evaluation.append((kind, text, label(pair, sentence)))
                forbidden += [sentence, wrong_sentence(pair, sentence)]
            else:
                few_shot.append((kind, text, answer(sentence, reason(pair))))
    number = 0
    for name, rows in (("train", train), ("eval", evaluation), ("few_shot", few_shot)):
        rows = Draw("order", name).shuffled(rows)
        records = [record(number + i, *row) for i, row in enumerate(rows, 1)]
        number += len(rows)
        write_json(out / f"{name}.json", records)
    corpus = warm_up(pairs, templates, forbidden)
    write_json(out / "corpus_sft.json", corpus)
    write_json(out / "corpus_copy.json", [item for item in corpus if item["scrambled"]])
    lines = plain_text(pairs, templates, forbidden)
    write(out / "corpus_text.txt", "".join(line + "\n" for line in lines))
    write(out / "instruct.json", json.dumps(INSTRUCT, ensure_ascii=False, indent=4) + "\n")


def write_json(path, records):
    """A JSON array with one record a line."""
    rows = ",\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    write(path, f"[\n{rows}\n]\n")


def write(path, text):
    assert text == unicodedata.normalize("NFC", text), path
    path.write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="default: beside this file")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    build(arguments.out)
