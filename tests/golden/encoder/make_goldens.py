"""Makes the folders bert/, roberta/ and xlm-roberta/ and golden.json beside this file.

Each folder is a tiny random encoder that the real `transformers` saved; golden.json
holds its token ids and hidden states, and the scores that the real `bert_score`
package gives with it, one pair a call (so that no padding takes part).

    pip install torch "transformers==4.57.6" sentencepiece bert-score==0.3.13
    python make_goldens.py

transformers below 5, because bert-score 0.3.13 asks for the Python ("slow") tokenizers.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import bert_score
import sentencepiece
import torch
import transformers
from bert_score.utils import get_idf_dict, get_tokenizer, sent_encode
from tokenizers import ByteLevelBPETokenizer, BertWordPieceTokenizer
from transformers import (
    BertConfig, BertModel, BertTokenizer, BertTokenizerFast, RobertaConfig, RobertaModel,
    RobertaTokenizer, RobertaTokenizerFast, XLMRobertaConfig, XLMRobertaModel,
    XLMRobertaTokenizer, XLMRobertaTokenizerFast,
)

HERE = Path(__file__).resolve().parent
torch.manual_seed(20)

TEXTS = [
    "받침이 있는 말 뒤에는 '이'를 쓴다.",
    "받침이 없는 말 뒤에는 '가'를 쓴다.",
    "띄어 쓰는 것이 원칙이고, 붙여 쓰는 것도 허용한다.",
    "어간의 끝음절 '하'가 아주 줄 적에는 준 대로 적는다.",
    "두 말이 어울릴 적에 소리가 덧나는 것은 덧나는 대로 적는다.",
    "의존 명사는 띄어 쓴다.",
    "'안'은 부정을 나타내는 부사이므로 뒷말과 띄어 쓴다.",
    "The cat sat on the mat.",
    "A cat is sitting on the mat.",
    "quick brown fox",
    "The quick brown fox jumps over the lazy dog near the river bank",
    "Hello world",
]
PAIRS = [
    [TEXTS[0], TEXTS[1]],
    [TEXTS[2], TEXTS[5]],
    [TEXTS[3], TEXTS[4]],
    [TEXTS[6], TEXTS[6]],
    ["  의존 명사는 \t 띄어 쓴다.\n", TEXTS[5]],
    [TEXTS[7], TEXTS[8]],
    [TEXTS[9], TEXTS[10]],
    ["", TEXTS[11]],
    [TEXTS[11], " \n"],
    ["", ""],
    ["받침", TEXTS[0]],  # decomposed in the next line
    ["\u1107\u1161\u11ae\u110e\u1175\u11b7", TEXTS[0]],
    [" ".join(TEXTS), " ".join(reversed(TEXTS))],  # truncated
    ["漢字와 한글 ☃ é", "한글만 쓴다!!"],
    ["의존 [MASK] 띄어 [SEP] 쓴다 <mask> 말 </s> 뒤 <pad> 말", TEXTS[5]],
]
HIDDEN_TEXTS = [TEXTS[5], TEXTS[11], PAIRS[13][0]]


def randomise(model):
    """Weights large enough for layers to differ, biases and norms away from 0 and 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if "embeddings" in name and "LayerNorm" not in name else 0.15
            parameter.normal_(0.0, scale)
            if "LayerNorm.weight" in name:
                parameter.add_(1.0)
    return model.eval()


def make_bert(folder):
    trainer = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    trainer.train_from_iterator(TEXTS, vocab_size=320, min_frequency=1, show_progress=False)
    with tempfile.TemporaryDirectory() as scratch:
        vocab = trainer.save_model(scratch)[0]
        kwargs = dict(do_lower_case=False, model_max_length=40)
        BertTokenizer(vocab, **kwargs).save_pretrained(folder)
        fast = BertTokenizerFast(vocab, **kwargs)
        fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=trainer.get_vocab_size(), hidden_size=32, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=48,
    )
    randomise(BertModel(config, add_pooling_layer=False)).save_pretrained(folder)


def make_roberta(folder):
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(TEXTS, vocab_size=400, special_tokens=special, show_progress=False)
    with tempfile.TemporaryDirectory() as scratch:
        files = trainer.save_model(scratch)
        RobertaTokenizer(*files).save_pretrained(folder)  # no model_max_length: positions decide
        RobertaTokenizerFast(*files).save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text())
    content["model_max_length"] = 96
    settings.write_text(json.dumps(content, indent=2))
    config = RobertaConfig(
        vocab_size=trainer.get_vocab_size(), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=48, max_position_embeddings=98,
        type_vocab_size=1, layer_norm_eps=1e-5, hidden_act="gelu_new",
    )
    randomise(RobertaModel(config, add_pooling_layer=False)).save_pretrained(folder)


def make_xlm_roberta(folder):
    with tempfile.TemporaryDirectory() as scratch:
        prefix = f"{scratch}/m"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS), model_prefix=prefix, vocab_size=200,
            character_coverage=1.0, model_type="unigram", hard_vocab_limit=False, minloglevel=2,
            normalization_rule_name="identity",  # nfkc would add 300 kB
        )
        slow = XLMRobertaTokenizer(f"{prefix}.model", model_max_length=64)
        slow.save_pretrained(folder)
        XLMRobertaTokenizerFast.from_pretrained(folder).save_pretrained(folder)
        size = len(slow)
    config = XLMRobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    randomise(XLMRobertaModel(config, add_pooling_layer=False)).save_pretrained(folder)


def rounded(tensor):
    return [round(value, 7) for value in tensor.flatten().tolist()]


def score_one_by_one(folder, layers, idf, rescale):
    rows = []
    for candidate, reference in PAIRS:
        p, r, f = bert_score.score(
            [candidate], [reference], model_type=str(folder), num_layers=layers, idf=idf,
            lang="ko", nthreads=0, rescale_with_baseline=rescale, device="cpu",
            baseline_path=str(HERE / "baseline.tsv") if rescale else None,
        )
        rows.append([round(float(value), 7) for value in (p[0], r[0], f[0])])
    return rows


def goldens(name, make, all_layers):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    make(folder)
    tokenizer = get_tokenizer(str(folder), use_fast=False)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    hidden = []
    for text in HIDDEN_TEXTS:
        ids = sent_encode(tokenizer, text)
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        hidden.append({"text": text, "ids": ids, "states": [rounded(s) for s in states]})
    idf = get_idf_dict([reference for _, reference in PAIRS], tokenizer, nthreads=0)
    scores = [
        {"layers": layers, "idf": with_idf, "rescale": rescale,
         "prf": score_one_by_one(folder, layers, idf if with_idf else False, rescale)}
        for layers, with_idf, rescale in [
            (all_layers, False, False), (1, False, False), (0, False, False),
            (all_layers, True, False), (all_layers, False, True), (1, True, True),
        ]
    ]
    # Only the Python tokenizer needs it; moim reads tokenizer.json.
    (folder / "sentencepiece.bpe.model").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    return {
        "ids": [[sent_encode(tokenizer, text) for text in pair] for pair in PAIRS],
        "hidden": hidden,
        "scores": scores,
    }


def main():
    (HERE / "baseline.tsv").write_text(
        "LAYER,P,R,F\n0,0.30,0.31,0.305\n1,0.42,0.43,0.425\n2,0.52,0.53,0.525\n3,0.61,0.62,0.615\n"
    )
    result = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"bert-score 0.3.13, one pair a call",
        "pairs": PAIRS,
        "models": {
            "bert": goldens("bert", make_bert, 3),
            "roberta": goldens("roberta", make_roberta, 2),
            "xlm-roberta": goldens("xlm-roberta", make_xlm_roberta, 2),
        },
    }
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    (HERE / "golden.json").write_text(text.replace('"hidden":', '\n"hidden":') + "\n")


if __name__ == "__main__":
    sys.exit(main())
