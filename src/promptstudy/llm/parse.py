"""From raw replies to sentences: pure functions, so that parsing can be repeated and improved.

Whatever is not kept is a `Problem` with its reason; nothing is left out silently.
"""

import re
from collections import Counter
from typing import NamedTuple

from .completion import BadReply, read_completion

WORDS = (3, 60)  # a sentence has at least and at most so many
REFUSAL = re.compile(r"\b(i'?m sorry|i am sorry|i apologi[sz]e|as an ai|i can'?t|i cannot|"
                     r"i am unable|i'?m unable|i won'?t)\b", re.IGNORECASE)
PREAMBLE = re.compile(r"^(sure|certainly|of course|okay|here (is|are|'s)|here's)\b", re.IGNORECASE)
MARKS = re.compile(r"^\s*(?:[-*•>#]+|\(?\d{1,2}[.)])\s+|[*_`]{2,}|^\s*[\"“]|[\"”]\s*$")
END = re.compile(r"(?<=[.!?])[\"”)]*\s+(?=[\"“(]?[A-Z0-9])")


class Problem(NamedTuple):
    """Something that did not become a description, and why."""

    class_name: str
    reason: str
    text: str = ""


class Parsed(NamedTuple):
    """`sentences` {class: [sentence, ...]} and the `problems`."""

    sentences: dict
    problems: list


def summary(problems):
    """Return `reason: count, ...` of problems, the most frequent first."""
    counts = Counter(problem.reason for problem in problems).most_common()
    return ", ".join(f"{reason}: {count}" for reason, count in counts) or "nothing"


def parse(requests, replies):
    """Return the `Parsed` replies to `requests`, sentences in the order of the requests.

    Of several replies with one key the last good one counts. A sentence that a class has already
    is kept once.
    """
    answers = {}
    for reply in replies:
        try:
            answers[reply.key] = read_completion(reply.body)
        except BadReply:
            pass  # ask() has sent the request again; if in vain, it is unanswered
    sentences = {request.class_name: [] for request in requests}
    problems, seen = [], set()
    for request in requests:
        name = request.class_name
        if request.key not in answers:
            problems.append(Problem(name, "no reply yet"))
            continue
        kept, left_out = split_reply(answers[request.key].choices[0])
        problems += [Problem(name, reason, text) for reason, text in left_out]
        for sentence in kept:
            if (name, sentence.lower()) in seen:
                problems.append(Problem(name, "duplicate", sentence))
            else:
                seen.add((name, sentence.lower()))
                sentences[name].append(sentence)
    return Parsed(sentences, problems)


def split_reply(choice):
    """Return the usable sentences of a reply and `(reason, text)` of everything else in it."""
    text = (choice.message.content or "").strip()
    if choice.message.refusal or choice.finish_reason == "content_filter" or REFUSAL.search(text):
        return [], [("refusal", choice.message.refusal or text)]
    if not text:
        return [], [("empty", "")]
    kept, left_out = [], []
    lines = [MARKS.sub("", line).strip() for line in text.splitlines()]
    for sentence in (part.strip() for line in lines for part in END.split(line)):
        reason = sentence and _fault(sentence, choice.finish_reason)
        if reason:
            left_out.append((reason, sentence))
        elif sentence:
            kept.append(sentence)
    return kept, left_out


def _fault(sentence, finish_reason):
    """Return why a sentence is no description, or None."""
    words = re.findall(r"\w+", sentence.lower())
    if PREAMBLE.match(sentence):
        return "preamble"
    if sentence[-1] not in ".!\"”)":
        return "question" if sentence[-1] == "?" else \
            "cut off" if finish_reason == "length" else "not a sentence"
    if not WORDS[0] <= len(words) <= WORDS[1]:
        return f"{len(words)} words"
    if len(set(words)) < len(words) / 2:
        return "repeats itself"
    return None
