"""Patterns with `*` (any characters, also `/`) and `?` (one character)."""


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole text matches. Needs at most len(pattern) * len(text) steps."""
    at, place = 0, 0
    star, resume = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[place]}:
            at += 1
            place += 1
        elif star >= 0:
            at, resume = star + 1, resume + 1
            place = resume
        else:
            return False
    return all(rest == "*" for rest in pattern[at:])
