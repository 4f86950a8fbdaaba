"""Neutral sentences to be spoken: the emotion is in the prosody alone.

A sentence is drawn from three slots; which split a sentence belongs to follows from its own text,
so the splits share none.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final, Literal

from edgecloud.models.prompts import Language

Split = Literal["train", "dev", "test", "unseen"]

_CHINESE: Final[tuple[tuple[str, ...], ...]] = (
    ("今天", "明天", "昨天", "上午", "下午", "晚上", "周末", "中午", "刚才", "早上"),
    (
        "我们",
        "他们",
        "老师",
        "同事",
        "邻居",
        "学生",
        "司机",
        "医生",
        "经理",
        "客人",
        "朋友",
        "店员",
    ),
    (
        "在家看书",
        "去了图书馆",
        "坐车进城",
        "买了水果",
        "整理房间",
        "打了电话",
        "准备晚饭",
        "收到包裹",
        "参加会议",
        "修好了门",
        "喝了杯茶",
        "写完报告",
        "路过公园",
        "换了座位",
        "打开窗户",
        "取走文件",
        "搬了桌子",
        "订了车票",
    ),
)
_ENGLISH: Final[tuple[tuple[str, ...], ...]] = (
    (
        "my neighbour",
        "the teacher",
        "our driver",
        "the doctor",
        "a student",
        "the manager",
        "your friend",
        "the clerk",
        "our guest",
        "the baker",
        "my cousin",
        "the farmer",
    ),
    (
        "opened the window",
        "bought some fruit",
        "moved the table",
        "read the letter",
        "called the office",
        "fixed the door",
        "made some tea",
        "wrote a report",
        "took the bus",
        "cleaned the room",
        "found the keys",
        "packed the box",
        "closed the shop",
        "booked a ticket",
        "watered the plants",
        "carried the chairs",
    ),
    (
        "today",
        "yesterday",
        "this morning",
        "at noon",
        "last night",
        "on Monday",
        "after lunch",
        "before dinner",
        "in the evening",
        "an hour ago",
    ),
)
_SLOTS: Final[dict[Language, tuple[tuple[str, ...], ...]]] = {
    "chinese": _CHINESE,
    "english": _ENGLISH,
}


def split_of(sentence: str) -> Split:
    """The split that a sentence belongs to: about 70% train, 10% each dev, test and unseen."""
    bucket = hashlib.sha256(sentence.encode()).digest()[0] % 10
    if bucket < 7:
        return "train"
    held_out: tuple[Split, ...] = ("dev", "test", "unseen")
    return held_out[bucket - 7]


def draw_sentence(language: Language, split: Split, rng: random.Random) -> str:
    """One sentence of `split`, all of the split's sentences being equally likely."""
    while True:
        words = [rng.choice(slot) for slot in _SLOTS[language]]
        sentence = ("" if language == "chinese" else " ").join(words)
        if split_of(sentence) == split:
            return sentence
