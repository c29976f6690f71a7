"""From raw replies to sentences: pure functions, so that parsing can be repeated and improved.

Everything that is left out is a `Problem` with its reason.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import regex

from .completion import BadReply, Choice, read_completion
from .log import Reply
from .queries import Request

WORDS = (3, 60)  # the fewest and the most in a sentence
LEAST_OF_ITEM = 2  # words in a list item, which lacks only the full stop of a sentence
LETTERS = (3, 300)  # in non-Latin scripts, whose sentences may be one or two words
THOUGHTS = regex.compile(r"<(think(?:ing)?)>.*?(?:</\1>|\Z)|\A.*</think(?:ing)?>",
                         regex.DOTALL | regex.IGNORECASE)
REFUSAL = regex.compile(
    r"\W*(?:(?:oh|well|unfortunately|but)\b\W*)*"
    r"(?:(?:(?:(?:i['’]?m|i am)\s+(?:\w+\s+)?)?sorry|(?:my )?apologies|i apologi[sz]e|"
    r"as an? (?:ai|artificial|(?:large )?language model)|"
    r"i (?:can['’]?t|cannot|can not|won['’]?t|will not)|(?:i['’]?m|i am) (?:unable|not able))\b|"
    r"(?:很|非常|真的)?(?:抱歉|对不起)|作为(?:一个|一名)?(?:AI|人工智能))", regex.IGNORECASE)
PREAMBLE = regex.compile(r"^(sure|certainly|of course|okay|here (is|are|'s)|here's)\b",
                         regex.IGNORECASE)
BULLET = regex.compile(r"\s*(?:(?:[-*+–—·]|\(?\d{1,2}[.)])\s+|"
                       r"(?:[•‣◦▪●]|[(（]?\d{1,2}[、．）])\s*)")
MARKS = regex.compile(r"^\s*(?:[-*•>#]+|\(?\d{1,2}[.)])\s+|[*_`]{2,}|^\s*[\"“]|[\"”]\s*$")
QUESTION = regex.compile(r"[?？؟՞]$")
ENDED = regex.compile(r"[\p{Sentence_Terminal}\"”)」』）》]$")
# a full stop of a script that puts no space after it, and one of a script that does
END = regex.compile(r"(?<=[。！？][」』”）]*)(?=[^\s。！？」』”）])|"
                    r"(?<=\p{Sentence_Terminal})[\"”)]*\s+(?=[\"“(]?[\p{Lu}\p{Lo}\p{N}])")
OTHER = regex.compile(r"[\p{L}--\p{Latin}]", regex.V1)  # letters that are not Latin
# scripts that put no spaces between words
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
UNMARKED = regex.compile(r"[\p{Thai}\p{Lao}]$")  # scripts that put no full stop after a sentence


class Problem(NamedTuple):
    """Something that did not become a description, and why."""

    class_name: str
    reason: str
    text: str = ""


class Parsed(NamedTuple):
    """`sentences` {class: [sentence, ...]} and the `problems`."""

    sentences: dict
    problems: list


def summary(problems: Iterable[Problem]) -> str:
    """Return `reason: count, ...` of problems, the most frequent first."""
    counts = Counter(problem.reason for problem in problems).most_common()
    return ", ".join(f"{reason}: {count}" for reason, count in counts) or "nothing"


def parse(requests: list[Request], replies: Iterable[Reply]) -> Parsed:
    """Return the `Parsed` replies to `requests`, sentences in the order of the requests.

    Of several replies with the same key the last good one counts. Duplicate sentences of a class
    are kept once.
    """
    answers = {}
    for reply in replies:
        try:
            answers[reply.key] = read_completion(reply.body)
        except BadReply:
            pass  # ask() has sent the request again; if that failed, it is unanswered
    sentences: dict[str, list[str]] = {request.class_name: [] for request in requests}
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


def without_sentence(parsed: Parsed) -> list[str]:
    """Return the classes of `Parsed` replies that have no sentence at all."""
    return [name for name, sentences in parsed.sentences.items() if not sentences]


def split_reply(choice: Choice) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the usable sentences of a reply and `(reason, text)` of everything else in it."""
    said = choice.message.content or ""
    text = THOUGHTS.sub("", said).strip()
    left_out = [("thoughts", found[0].strip()) for found in THOUGHTS.finditer(said)]
    if choice.message.refusal or choice.finish_reason == "content_filter" or REFUSAL.match(text):
        return [], [*left_out, ("refusal", choice.message.refusal or text)]
    if not text:
        return [], left_out or [("empty", "")]
    kept = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        is_item = BULLET.match(line) is not None
        line = MARKS.sub("", line[BULLET.match(line).end():] if is_item else line).strip()
        if is_item and not (number == len(lines) and choice.finish_reason == "length"):
            line = _as_sentence(line)
        for sentence in map(str.strip, END.split(line)):
            reason = sentence and _fault(sentence, choice.finish_reason, is_item)
            if reason:
                left_out.append((reason, sentence))
            elif sentence:
                kept.append(sentence)
    return kept, left_out


def _as_sentence(item):
    """Return a list item with a full stop at its end; a heading is returned unchanged."""
    if not item or item[-1] in ":：" or ENDED.search(item):
        return item
    return item.rstrip(" ,;，；、") + ("。" if _mostly(UNSPACED, item) else ".")


def _mostly(script, sentence):
    """Return whether most letters of a sentence belong to a script."""
    return 2 * len(script.findall(sentence)) > len(regex.findall(r"\p{L}", sentence))


def _fault(sentence, finish_reason, is_item):
    """Return why a sentence is not a description, or None."""
    if PREAMBLE.match(sentence):
        return "preamble"
    if REFUSAL.match(sentence):
        return "refusal"
    if QUESTION.search(sentence):
        return "question"
    if finish_reason == "length" and not ENDED.search(sentence):
        return "cut off"
    if not ENDED.search(sentence) and not UNMARKED.search(sentence):
        return "not a sentence"
    words, letters = (regex.findall(unit, sentence.lower()) for unit in (r"\w+", r"\p{L}"))
    if _mostly(OTHER, sentence):
        if not LETTERS[0] <= len(letters) <= LETTERS[1]:
            return f"{len(letters)} letters"
    elif not (LEAST_OF_ITEM if is_item else WORDS[0]) <= len(words) <= WORDS[1]:
        return f"{len(words)} words"
    if _mostly(UNSPACED, sentence):  # there, repetition shows in letter pairs
        words = list(zip(letters, letters[1:], strict=False))
    if len(set(words)) < len(words) / 2:
        return "repeats itself"
    return None
