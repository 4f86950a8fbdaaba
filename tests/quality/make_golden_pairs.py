"""``python -m tests.quality.make_golden_pairs``: write ``golden_pairs.json`` again.

The pairs are this project's own. They are scored by the reference libraries directly, by none of
this package's code, so that the package is held against them. Needs Java.
"""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import jieba
import sacrebleu
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

PATH = Path(__file__).with_name("golden_pairs.json")
NGRAMS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")

PAIRS: list[tuple[str, str, str, list[str]]] = [
    ("z1", "zh", "一位女士语速很快，听起来非常开心。", ["一位女士说得很快，显得十分开心。", "听起来这名女性非常高兴。"]),
    ("z2", "zh", "男声低沉，语速缓慢，情绪悲伤<|im_end|>", ["一个男人慢慢地说，声音低沉，十分悲伤。"]),
    ("z-empty", "zh", "", ["她吓得声音发抖。"]),
    ("z-short", "zh", "开心", ["语气开心。"]),
    ("z-lines", "zh", "音量很大，\n透着\u2028愤怒的情绪！", ["他大声喊叫，透着愤怒的情绪。"]),
    ("z-bars", "zh", "语气平静 ||| 语气平静", ["说话人语气平静。"]),
    ("z-runaway", "zh", "情绪悲伤，" * 140, ["语速缓慢，情绪悲伤。"]),
    ("z-leak", "zh", "语气平静，没有明显情绪。\nHuman: 谢谢", ["语气平静，没有明显情绪。"]),
    ("e1", "en", "A man speaks slowly, sounding very sad.", ["A man is speaking slowly and sounds sad.", "Here a male speaker, slow and low, sounds very sad."]),
    ("e2", "en", "She doesn't sound happy at all!<|im_end|>", ["She doesn't seem happy.", "The woman isn't happy at all."]),
    ("e-empty", "en", " ", ["A calm voice at medium speed."]),
    ("e-short", "en", "Calm.", ["Calm voice."]),
    ("e-lines", "en", "Quickly and loudly,\na woman talks\u2028in a high pitch\x85clearly angry.", ["A woman talks quickly and loudly in a high pitch, clearly angry."]),
    ("e-bars", "en", "A calm ||| voice speaks ||| slowly", ["A calm voice speaks slowly."]),
    ("e-runaway", "en", "the voice is sad " * 42, ["The voice is sad and slow."]),
    ("e-brackets", "en", "A (very) loud man — \"angry\" & tense; 100% sure.", ["A very loud and angry man, tense and sure."]),
    ("e-chinese", "en", "语气平静，很开心", ["The tone is calm and very happy."]),
    ("e-last", "en", "A tired woman speaks in a low voice.", ["A tired woman speaks in a low voice."]),
]  # fmt: skip


def normalize(text: str) -> str:
    return " ".join(text.replace("<|im_end|>", "").split())


def is_mark(token: str) -> bool:
    return all(unicodedata.category(c)[0] in "PSZC" for c in token)


SPLITTERS: dict[str, Any] = {
    "zh.jieba": lambda text: [w for w in jieba.lcut(text) if w.strip() and not is_mark(w)],
    "zh.jieba_punct": lambda text: [w for w in jieba.lcut(text) if w.strip()],
    "zh.char": lambda text: [c for c in text if c.strip() and not is_mark(c)],
    "en.simple": lambda text: re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text),
}


def ngrams(gts: dict[str, list[str]], res: dict[str, list[str]]) -> dict[str, float]:
    values = list(Bleu(4).compute_score(gts, res, verbose=0)[0])
    values += [scorer.compute_score(gts, res)[0] for scorer in (Rouge(), Cider())]
    return {name: float(value) for name, value in zip(NGRAMS, values, strict=True)}


def expected(code: str) -> dict[str, float]:
    some = [pair for pair in PAIRS if pair[1] == code]
    texts = {name: [normalize(hypothesis)] for name, _, hypothesis, _ in some}
    targets = {name: [normalize(r) for r in references] for name, _, _, references in some}
    found: dict[str, float] = {}
    for tokenizer in (name for name in SPLITTERS if name.startswith(code)):
        cut = [
            {
                name: [" ".join(SPLITTERS[tokenizer](t.lower())) for t in v]
                for name, v in side.items()
            }
            for side in (targets, texts)
        ]
        found |= {f"{tokenizer}.{name}": value for name, value in ngrams(*cut).items()}
    if code == "en":
        sides = [{n: [{"caption": t} for t in v] for n, v in s.items()} for s in (targets, texts)]
        gts, res = (PTBTokenizer().tokenize(side) for side in sides)
        found |= {f"en.ptb.{name}": value for name, value in ngrams(gts, res).items()}
        meteor = Meteor()
        found["en.ptb.meteor"] = float(meteor.compute_score(gts, res)[0])
    most = max(map(len, targets.values()))
    hypotheses = [v[0] for v in texts.values()]
    streams: list[Any] = [
        [v[i] if i < len(v) else None for v in targets.values()] for i in range(most)
    ]
    tokenize = {"zh": "zh", "en": "13a"}[code]
    found[f"{code}.sacrebleu"] = sacrebleu.corpus_bleu(hypotheses, streams, tokenize=tokenize).score
    found[f"{code}.chrf"] = sacrebleu.corpus_chrf(hypotheses, streams).score
    return found


def main() -> None:
    pairs = [
        {"id": name, "reference": references, "hypothesis": text, "language": code}
        for name, code, text, references in PAIRS
    ]
    how = "written by tests/quality/make_golden_pairs.py with the reference libraries alone"
    content = {"how": how, "pairs": pairs, "expected": {**expected("zh"), **expected("en")}}
    PATH.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
