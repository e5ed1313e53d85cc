"""Texts at the edge of what a tokenizer meets: where clients differ first. Written for this; nobody's data."""

from __future__ import annotations

EDGES = {
    "empty": "",
    "a space": " ",
    "a word": "hello",
    "upper case": "HELLO World",
    "apostrophes": "what's up, isn't it?",
    "accents, composed": "caf\u00e9 na\u00efve fa\u00e7ade",
    "accents, combining": "cafe\u0301 nai\u0308ve fac\u0327ade",
    "sharp s and umlauts": "stra\u00dfe Gr\u00f6\u00dfe",
    "Turkish I, dotted and dotless": "\u0130stanbul ISPARTA \u0131l\u0131k",
    "letters that no accent makes": "\u00c6r\u00f8 \u0141\u00f3d\u017a",
    "ideographic space": "one\u3000two",
    "no-break space": "one\u00a0two",
    "zero-width space": "one\u200btwo",
    "tab and line break": "one\ttwo\nthree",
    "control characters": "one\u0007two\u007fthree",
    "byte order mark": "\ufeffone",
    "special tokens spelled out": "[MASK] [CLS] [SEP] [PAD] [UNK]",
    "a special token in lower case": "[mask]",
    "Chinese and Japanese": "今日は晴れ",
    "Cyrillic": "привет мир",
    "Arabic": "مرحبا",
    "Hangul, composed and not": "\ud55c \u1112\u1161\u11ab",
    "emoji": "👍 👩\u200d👩\u200d👧 🇩🇪",
    "figures and signs": "1,234.56 € + 7%",
    "an address": "http://localhost/?q=1&r=2#x",
    "a word of 150 letters": "a" * 150,
    "more than any maximum": "word " * 600,
}
"""What is odd about a text → the text."""
