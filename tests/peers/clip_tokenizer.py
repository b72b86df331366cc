"""CLIP token ids of 10,000 texts, ours beside transformers' CLIPTokenizer.

    python tests/peers/clip_tokenizer.py [build/bin/lk-tokenize]      compares
    python tests/peers/clip_tokenizer.py make                          writes tests/models/clip_tokenizer (vocabulary, merges, some texts with ids)

The vocabulary is a small one, trained on this project's own pages. Texts: words of those pages, many scripts, accents composed and decomposed,
Hangul, emoji with joiners, control characters, all kinds of white space, contractions, special tokens in odd case, long words, empty text;
truncated and padded to 16, 24 and 77 ids."""
import glob
import json
import os
import random
import subprocess
import sys

try:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers, Regex
    from transformers import CLIPTokenizer
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIR = os.path.join(ROOT, "tests/models/clip_tokenizer")
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def pages():
    return [open(f, encoding="utf-8").read() for f in sorted(glob.glob(f"{ROOT}/docs/*.md")) + [f"{ROOT}/README.md"]]


def make_vocabulary():
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    extra = ["éàü çœuvre naïve café über straße Ελλάδα привет мир 한국어 日本語 "] * 40
    t.train_from_iterator(pages() + extra, trainers.BpeTrainer(vocab_size=1200, end_of_word_suffix="</w>", show_progress=False))
    merges = [m if isinstance(m, list) else m.split(" ") for m in json.loads(t.to_str())["model"]["merges"]]
    letters = [pre_tokenizers.ByteLevel.alphabet()]
    letters = sorted(letters[0])
    vocab = {}
    for token in letters + [c + "</w>" for c in letters]:
        vocab[token] = len(vocab)
    kept = []
    for a, b in merges:
        if a in vocab and b in vocab:
            kept.append((a, b))
            vocab.setdefault(a + b, len(vocab))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    os.makedirs(DIR, exist_ok=True)
    with open(f"{DIR}/vocab.json", "w", encoding="utf-8") as f:
        json.dump(vocab, f, ensure_ascii=False)
    with open(f"{DIR}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in kept))


def texts(n):
    r = random.Random(11)
    words = sorted({w for p in pages() for w in p.split()})
    alphabets = [range(0x20, 0x7f), range(0xa0, 0x250), range(0x370, 0x3ff), range(0x400, 0x52f), range(0x5d0, 0x5eb), range(0x620, 0x64b), range(0x905, 0x93a), range(0xe01, 0xe31),
                 range(0x3041, 0x3097), range(0x4e00, 0x4f00), range(0xac00, 0xad00), range(0x1100, 0x1113), range(0x1f300, 0x1f640), range(0x300, 0x345), range(0x1e00, 0x1f00),
                 range(0x1f00, 0x2000), range(0x2000, 0x206f), range(0x2100, 0x2190), range(0x660, 0x66a), range(0x2160, 0x2189), range(0xff21, 0xff5b), range(0x10400, 0x10450), range(1, 0x20),
                 range(0x7f, 0xa0), range(0x1d400, 0x1d440), range(0xf900, 0xfa00), range(0x930, 0x940), range(0x9c7, 0x9d8), range(0xb47, 0xb58), range(0x1b05, 0x1b44)]
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u200b", "\u1680", ""]
    special = ["'s", "'re", "''", "'LL", "don't", "I'M", "we'VE", "<|endoftext|>", "<|startoftext|>", "<|EndOfText|>", "<|startofTEXT|>!!", "<|end", "🤦🏽‍♂️", "👨‍👩‍👧", "e\u0301", "İstanbul", "ΣΟΦΟΣ", "ǅ", "ẞ", "ﬁ",
               "Å", "Å", "1/2", "½", "①", "x²", "a photo of sks person", "12345", "...", "!!!", "\ufeff", "\x00", "a\u0327\u0301", "\u1112\u1161\u11ab", "각", "क़", "\u0958", "a" * 50, "z" * 300]

    def run():
        kind = r.random()
        if kind < .45:
            return r.choice(words)
        if kind < .62:
            return r.choice(special)
        a = r.choice(alphabets)
        return "".join(chr(r.choice(a)) for _ in range(r.randint(1, 8)))
    out = ["", " ", "a", "A photo of a person.", "\n\n"]
    while len(out) < n:
        t = "".join(run() + r.choice(spaces) for _ in range(r.randint(1, 14)))
        out.append(t.upper() if r.random() < .1 else t)
    return out


def theirs(lines, length, pad=None):
    with open(f"{DIR}/vocab.json", encoding="utf-8") as f:
        vocab = json.load(f)
    merges = [tuple(line.split(" ")) for line in open(f"{DIR}/merges.txt", encoding="utf-8").read().split("\n")[1:] if line]
    t = CLIPTokenizer(vocab=vocab, merges=merges, **({"pad_token": pad} if pad else {}))
    return t(lines, padding="max_length", truncation=True, max_length=length)["input_ids"]


def ours(tool, lines, length):
    text = "".join(json.dumps(x) + "\n" for x in lines)
    p = subprocess.run([tool, DIR, f"length={length}"], input=text, capture_output=True, text=True)
    if p.returncode:
        sys.exit(p.stderr)
    return [[int(x) for x in line.split()] for line in p.stdout.splitlines()]


def main():
    if sys.argv[1:] == ["make"]:
        make_vocabulary()
        rows = [{"text": t, "ids": i} for t, i in zip(texts(10000)[:10000:33], theirs(texts(10000)[:10000:33], 24))]
        with open(f"{DIR}/texts.json", "w") as f:
            f.write("{\"length\": 24, \"rows\": [\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]}\n")
        return 0
    tool = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/lk-tokenize")
    lines, bad = texts(10000), 0
    for length in (16, 24, 77):
        want, got = theirs(lines, length), ours(tool, lines, length)
        for text, a, b in zip(lines, want, got):
            if a != b:
                bad += 1
                if bad <= 8:
                    print(repr(text), "\n  theirs", a, "\n  ours  ", b)
        print(f"length {length}: {len(lines)} texts, {sum(a != b for a, b in zip(want, got))} differ")
    return 1 if bad else 0


sys.exit(main())
