#!/usr/bin/env python3
"""Makes the tokenizers and the configurations of the two demo models.

    pip install tokenizers==0.23.1        # any recent release will do
    python3 data/demo/build_tokenizers.py

Reads the files build.py wrote and writes, without any weights,
  model/    a Llama of about two million parameters: tokenizer.json,
            tokenizer_config.json, special_tokens_map.json,
            generation_config.json, config.json
  encoder/  a BERT of about one million: tokenizer.json, tokenizer_config.json,
            special_tokens_map.json, vocab.txt, config.json

The decoder's tokenizer is a BPE with a token for every character of the data
(so one for each Hangul syllable), byte fallback for the rest, and no merges:
with whole syllables as tokens, copying a sentence is one token after another.
`--merges N` learns N merges inside words instead, from corpus_text.txt. The
fixed phrases of the questions are added tokens, which makes a prompt about
three times shorter. Decoding gives back exactly what was encoded.
"""

import argparse
import collections
import json
import pathlib
import re
import string

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors

HERE = pathlib.Path(__file__).resolve().parent

PAD, BOS, EOS, START, END = SPECIAL = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
ROLES = ["system", "user", "assistant"]
PHRASES = [
    "[질문]: ",
    " 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.",
    "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MAX_ENCODER_PIECES = 2500


def texts():
    """Every text the decoder can meet: all questions, answers and prompts."""
    for name in ("train", "eval", "few_shot", "corpus_sft"):
        for record in json.loads((HERE / f"{name}.json").read_text("utf-8")):
            yield record["input"]["question"]
            yield record["output"]["answer"]
    yield from instruct().values()


def instruct():
    return json.loads((HERE / "instruct.json").read_text("utf-8"))


def text_lines():
    return (HERE / "corpus_text.txt").read_text("utf-8").splitlines()


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))


# ---------- the decoder: a small Llama ----------


def learn_merges(words, count, joined):
    """The `count` most frequent merges of neighbouring pieces, one after the other.

    `words` is a list of (pieces, times). Written out here because the trainers
    of `tokenizers` break ties differently from run to run.
    """
    words = [(list(pieces), times) for pieces, times in words]
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for pieces, times in words:
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 8:
            break
        merges.append(best)
        for pieces, _ in words:
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = [joined(*best)]
                i += 1
    return merges


def counted(pattern):
    return sorted(collections.Counter(re.findall(pattern, "\n".join(text_lines()))).items())


def decoder_tokenizer(merge_count):
    phrases = PHRASES + sorted(set(instruct().values()))
    characters = set(string.printable[:95]) | {"\n"} | set("".join(texts()))
    words = counted(r"[가-힣]+")  # a space is never merged with what follows
    merges = learn_merges(words, merge_count, lambda a, b: a + b)
    characters |= set("".join(a + b for a, b in merges))
    tokens = [*SPECIAL, *ROLES, *phrases]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += sorted(characters) + [a + b for a, b in merges]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    if merges:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[가-힣]+"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    plain = {"normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    tokenizer.add_special_tokens([AddedToken(t, special=True, **plain) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, **plain) for t in ROLES + phrases])
    assert tokenizer.get_vocab_size() == len(vocabulary), "an added token got a second id"
    return tokenizer


def write_decoder(out, merge_count):
    tokenizer = decoder_tokenizer(merge_count)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    names = {"bos_token": BOS, "eos_token": END, "pad_token": PAD}
    write_json(out / "special_tokens_map.json", names)
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            "clean_up_tokenization_spaces": False,
            "add_bos_token": False,
            "add_eos_token": False,
            **names,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(
        out / "generation_config.json",
        {
            "bos_token_id": ids[BOS],
            "eos_token_id": [ids[END], ids[EOS]],
            "pad_token_id": ids[PAD],
        },
    )
    write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 32,
            "hidden_act": "silu",
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "bos_token_id": ids[BOS],
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "torch_dtype": "bfloat16",
        },
    )
    return tokenizer


# ---------- the encoder: a small BERT ----------


def write_encoder(out):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pad, unk, cls, sep, mask = special
    tokenizer = Tokenizer(models.WordPiece(unk_token=unk, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    # Every character of the data as a first and as a later piece of a word,
    # then the pieces that occur most often.
    characters = sorted({c for text in [*texts(), *text_lines()] for c in text if not c.isspace()})
    pieces = characters + ["##" + c for c in characters if c.isalnum()]
    words = [([w[0], *("##" + c for c in w[1:])], n) for w, n in counted(r"[가-힣]+")]
    room = MAX_ENCODER_PIECES - len(special) - len(pieces)
    pieces += [a + b[2:] for a, b in learn_merges(words, room, lambda a, b: a + b[2:])]
    vocabulary = {p: number for number, p in enumerate(dict.fromkeys(special + pieces))}
    tokenizer.model = models.WordPiece(
        vocab=vocabulary, unk_token=unk, max_input_chars_per_word=100
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "vocab.txt").write_bytes("".join(p + "\n" for p in vocabulary).encode("utf-8"))
    names = {
        "unk_token": unk,
        "sep_token": sep,
        "pad_token": pad,
        "cls_token": cls,
        "mask_token": mask,
    }
    write_json(out / "special_tokens_map.json", names)
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": False,
            "strip_accents": False,
            "tokenize_chinese_chars": True,
            "model_max_length": 192,
            **names,
        },
    )
    write_json(
        out / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": len(vocabulary),
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 192,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": vocabulary[pad],
            "position_embedding_type": "absolute",
            "torch_dtype": "bfloat16",
        },
    )
    return tokenizer


def check(decoder, encoder):
    """Every text comes back exactly, and the encoder knows every piece."""
    lengths = []
    for text in texts():
        ids = decoder.encode(text, add_special_tokens=False).ids
        assert decoder.decode(ids, skip_special_tokens=True) == text, text
        lengths.append(len(ids))
        unknown = encoder.token_to_id("[UNK]")
        assert unknown not in encoder.encode(text).ids, text
    for text in ["처음 보는 글자 뷁쀍, emoji 🙂 and\ttabs", "  two  spaces ", "역할(役割)"]:
        ids = decoder.encode(text, add_special_tokens=False).ids
        assert decoder.decode(ids, skip_special_tokens=True) == text, text
    return sum(lengths) / len(lengths)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--merges", type=int, default=0, help="BPE merges to learn (default 0)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="default: beside this file")
    arguments = parser.parse_args()
    model = write_decoder(arguments.out / "model", arguments.merges)
    bert = write_encoder(arguments.out / "encoder")
    mean = check(model, bert)
    print(f"decoder: {model.get_vocab_size()} tokens, {mean:.1f} tokens a text on average")
    print(f"encoder: {bert.get_vocab_size()} pieces")
