"""Facts about scripts: where sentences end, which scripts have no spaces, and where a text may be cut.

The tables are those of Unicode 17.0 (PropList.txt, emoji-data.txt, Blocks.txt), as `regex` 2026.11.19 has them.
`tests/frames/test_scripts.py` compares them.
"""

from __future__ import annotations

# Every character with the property Sentence_Terminal except `!`, `.` and `?`, as ranges for a character class.
# fmt: off
SENTENCE_TERMINALS = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e\u1b5f"
    "\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u2024\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54"
    "\u2e60\u2e61\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f"
    "\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
    "\U00010a56\U00010a57\U00010f55-\U00010f59\U00010f86-\U00010f89\U00011047\U00011048\U000110be-\U000110c1"
    "\U00011141-\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c"
    "\U000112a9\U000113d4\U000113d5\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9-\U000115d7\U00011641\U00011642"
    "\U0001173c-\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42"
    "\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44"
    "\U00016d6e\U00016d6f\U00016e98\U0001bc9f\U0001da88"
)
# Scripts that are written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Chinese,
# Japanese, Yi, Javanese. Korean has spaces.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u312f\u3190-\ua4cf"
    "\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\ufe30-\ufe4f\uff61-\uff9f\U0001b000-\U0001b2ff\U00020000-\U0003ffff"
)
# The scripts among them that end a sentence with a space, because they have no sign for it.
WITHOUT_STOPS = "\u0e00-\u0eff\u1950-\u19ff"
# Pictographs (Extended_Pictographic, from U+2300 on without CJK signs), modifiers of skin, and the letters of flags.
PICTOGRAPHS = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611"
    "\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f"
    "\u2660\u2663\u2665\u2666\u2668\u267b\u267e\u267f\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab"
    "\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8\u26ce\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa"
    "\u26fd\u2702\u2705\u2708-\u270d\u270f\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e"
    "\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55"
    "\U0001f000-\U0001faff\U0001fc00-\U0001fffd"
)
# fmt: on

_BACK = 256  # characters; a cluster is far shorter


def cluster_start(text: str, at: int) -> int:
    """Return the nearest place at or before `at` that is between two grapheme clusters (Unicode Annex 29)."""
    if not 0 < at < len(text) or (text[at].isascii() and text[at - 1 : at + 1] != "\r\n"):
        return max(0, min(at, len(text)))
    import regex  # only for text that is not ASCII: it takes 20 ms to import

    start = max(0, at - _BACK)
    for cluster in regex.finditer(r"\X", text, pos=start):
        if cluster.end() > at:
            begin: int = cluster.start()
            return begin
        if cluster.end() == at:
            return at
    return at
