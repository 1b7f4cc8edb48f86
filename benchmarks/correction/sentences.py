"""Sentences: those with a place for a term, by its category, and ordinary ones that no vocabulary may change."""

from __future__ import annotations

import ast
import os
import random
import re
from pathlib import Path

WITH_TERM = {
    "medicine": (
        "I take {} twice a day",
        "can I get a refill for my {} please",
        "the doctor prescribed {} last week",
        "I ran out of my {} tablets yesterday",
        "I am allergic to {}",
        "what is the right dose of {} for a child",
        "is it safe to take {} with alcohol",
        "she was taking {} before the operation",
    ),
    "name": (
        "my name is {}",
        "this is doctor {} speaking",
        "I would like to speak to mister {}",
        "I have an appointment with doctor {} on Monday",
        "the surname is {}",
        "it is under the name {}",
        "could you tell missus {} that I called",
    ),
    "department": (
        "can you put me through to the {} department",
        "I have an appointment at the {} clinic tomorrow",
        "my doctor referred me to {}",
        "where is the {} ward please",
        "I am waiting for my {} appointment",
    ),
}

_WHO = [
    "my aunt",
    "my mother",
    "my uncle",
    "the neighbour",
    "our teacher",
    "her brother",
    "his wife",
    "the manager",
    "a friend of mine",
    "the driver",
    "everybody",
    "my sister",
    "the children",
    "their cousin",
    "the new girl",
    "our boss",
    "the plumber",
    "the team",
    "nobody",
    "the receptionist",
]
_DID = [
    "called yesterday",
    "met for lunch",
    "met four men in town",
    "came home late",
    "took the early train",
    "was told to wait",
    "went for a walk",
    "bought a new phone",
    "wants to speak to you",
    "has been waiting for an hour",
    "moved to another city",
    "forgot the keys again",
    "paid the bill last month",
    "asked about the price",
    "will be here at noon",
    "sold the old car",
    "takes the dog out twice a day",
    "left a message for the manager",
    "was in the garden",
    "read it in the paper",
    "cannot come on Friday",
    "needs a new pair of glasses",
    "lost the ticket",
    "sent the letter by mail",
    "got a better offer",
]
_AND = [
    "",
    "because of the weather",
    "before the meeting",
    "and that was fine",
    "but we had no time",
    "after the holidays",
    "for once",
    "as far as I know",
    "in the end",
    "on the way home",
    "if I remember well",
    "with the whole family",
    "so I called you",
    "and I would like to know why",
    "at the station",
    "while it was raining",
    "just like last year",
]
_ASKS = [
    "can you tell me {}",
    "I would like to know {}",
    "do you know {}",
    "I was wondering {}",
    "nobody told me {}",
    "please explain {}",
]
_WHAT = [
    "when you open on Sunday",
    "how much it costs",
    "where the nearest station is",
    "if there is a table free tonight",
    "what the weather will be like",
    "whether the train is late",
    "why the bill is so high",
    "how long it takes",
    "which bus goes to the airport",
    "if I can pay by card",
    "who is in charge",
    "what time the show begins",
    "how to change my address",
    "if my order has left",
    "where I can park the car",
]
_CLOSE = [
    "my doctor told me to walk more",
    "the clinic was closed when my aunt called",
    "I take my son to school twice a day",
    "she took the tablet computer with her",
    "what is the name of the street",
    "the nurse was very kind to me",
    "he is a doctor and she is a teacher",
    "they named the dog after a king",
    "I need to take a day off",
    "the appointment was moved to the afternoon",
    "my name is on the list already",
    "we speak every week",
    "the department store is open until nine",
    "I take the bus and then a train",
    "who am I speaking to",
    "take care and have a nice day",
    "he was called back to work",
    "I have to scan this letter",
    "the ward was full last night",
    "the drug store around the corner is closed",
    "I take sugar and milk please",
    "it takes a while to get there",
    "can you spell that for me",
    "the family came over for dinner",
    "I took some pictures of the house",
    "is there a name for this colour",
    "the test was harder than I thought",
    "she takes after her mother",
    "please transfer the money today",
    "sir I was here first",
    "my aunt has an appointment on Tuesday",
    "the unit next door is for rent",
    "did you take the right exit",
    "I called my sister a minute ago",
    "my aunt took me to the clinic",
    "the doctor said the results are fine",
    "I was told to take it easy",
    "you can take it with you",
    "take the second street on the left",
    "I speak a little Spanish",
]


def ordinary(seed: int, number: int) -> list[str]:
    """This many different ordinary sentences. Every fifth has words that stand near terms, and no term."""
    chance = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        kind = chance.random()
        if kind < 0.2:
            parts = [chance.choice(_CLOSE), chance.choice(_AND)]
        elif kind < 0.4:
            parts = [chance.choice(_ASKS).format(chance.choice(_WHAT)), chance.choice(_AND)]
        else:
            parts = [chance.choice(_WHO), chance.choice(_DID), chance.choice(_AND)]
        found[" ".join(filter(None, parts))] = None
    return list(found)


def from_the_library(seed: int, number: int | None) -> list[str]:
    """This many sentences of 5 to 25 words, None for all, from the documentation of Python's standard library."""
    found: dict[str, None] = {}
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", ast.get_docstring(node) or ""):
                    plain = " ".join(sentence.split())
                    if _PLAIN.fullmatch(plain) and 5 <= len(plain.split()) <= 25:
                        found[plain] = None
    return random.Random(seed).sample(sorted(found), len(found) if number is None else number)


_PLAIN = re.compile(r"[A-Z][A-Za-z ,;'’-]+[.!?]")
