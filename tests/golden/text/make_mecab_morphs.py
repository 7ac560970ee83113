"""Morphemes by mecab-ko for src/text/morpheme.rs: rewrites mecab_morphs.json.

    pip install python-mecab-ko python-mecab-ko-dic==2.1.1.post2
    python make_mecab_morphs.py [FILE.json ...]

The texts are those already in mecab_morphs.json; every string of three characters or more
in the JSON files named is added to them. All sentences are our own.
"""

import json
import sys
import unicodedata
from pathlib import Path

from mecab import MeCab

OUTPUT = Path(__file__).with_name("mecab_morphs.json")

HAND_WRITTEN = [
    "",
    " ",
    "  앞뒤에 공백이 있다  ",
    "줄이\n바뀌고\t탭이 있다",
    "ABC123가나다",
    "ㅋㅋㅋㅋㅋ 정말?!",
    "ㄱㄴㄷ ㅏㅑㅓ",
    "朗讀과 漢字를 섞어 쓴다",
    "이모지😀🎉가 있는 문장",
    unicodedata.normalize("NFD", "한글로 쓴 문장"),
    "뷁꿻쒧뙓",
    "뷁꿻쒧뙓 뷁꿻쒧뙓뷁꿻쒧뙓뷁꿻쒧뙓뷁꿻쒧뙓뷁꿻쒧뙓뷁꿻쒧뙓뷁꿻쒧뙓",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "1234567890123456789012345678901234567890",
    "3.14와 1,000원, 50% 할인!",
    "https://example.org/a?b=c&d=e",
    "아버지가방에들어가신다",
    "아버지가 방에 들어가신다",
    "나 는 학 교 에 간 다",
    "할수있다 할 수 있다 할수 있다",
    "그는 '왠지'를 “웬지”로 잘못 썼다…",
    "ﬁ ½ ① ㈜ ℃ ㎏",
    "ａｂｃ１２３",
    "русский текст и ελληνικά",
    "日本語のテキスト 中文文本",
    "\u3000전각 공백\u00a0줄바꿈 없는 공백",
    "가" * 100,
    "가나다라마바사아자차카타파하 " * 30,
    "\u200b폭 없는 공백\u200b",
    "!!!???...,,,;;;:::",
]


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)


def main():
    texts = list(HAND_WRITTEN)
    if OUTPUT.exists():
        texts += [item["text"] for item in json.loads(OUTPUT.read_text("utf-8"))]
    for path in sys.argv[1:]:
        texts += [text for text in strings(json.loads(Path(path).read_text("utf-8"))) if len(text) >= 3]
    tagger = MeCab()
    items = [{"text": text, "morphs": tagger.morphs(text)} for text in dict.fromkeys(texts)]
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    OUTPUT.write_text(f"[\n{lines}\n]\n", "utf-8")
    print(len(items), "texts")


main()
