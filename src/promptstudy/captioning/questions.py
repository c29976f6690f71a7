"""Questions about photographs, with answers that follow from WordNet or from a shop's shelves."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DatasetError, MissingFile
from ..files import write_text
from ..pocket.vocabulary import WordNet
from .pictures import Photographs, Pictures

WHAT = "What kind of thing is this?"
# What a thing is: the first of these that WordNet counts it among. The word that is the answer is
# followed by the words of one of its synsets, which tell it from other senses.
KINDS = {"animal": "animate being", "plant": "flora", "instrument": "musical instrument",
         "vehicle": "vehicle", "weapon": "weapon system", "furniture": "article of furniture",
         "building": "edifice", "fruit": "edible fruit", "food": "nutrient",
         "tool": "tool", "container": "container", "device": "device"}
EDIBLE = ("seafood", "meat")  # a lobster is an animal here, not its flesh
VIEWS = ("body", "face", "head", "side")  # what is shown of the thing that a class is named after
ALIVE = ("animal", "plant")


class Question(NamedTuple):
    """A question about one test image, and the answers that people, or a rule, gave."""

    image: int  # index among the test images
    text: str
    answers: tuple[str, ...]


def kinds_by_wordnet(wordnet: WordNet, names: Sequence[str]) -> dict[str, str]:
    """Return `{class name: kind}` of the class names that WordNet knows and `KINDS` has a kind for.

    "crocodile head" is looked up as "crocodile" (see `VIEWS`). Of a noun's senses that can be seen,
    and are not the flesh of an animal, the most frequent one that is of a kind counts.
    """
    roots = {kind: _synset(wordnet, word) for kind, word in KINDS.items()}
    eaten = {_synset(wordnet, word) for word in EDIBLE}
    found = {}
    for name in names:
        words = name.lower().split()
        word = " ".join(words[:-1] if words[-1] in VIEWS and len(words) > 1 else words)
        senses = sorted(wordnet.senses.get(word, []), key=lambda each: -each[1])
        above = [wordnet.ancestors(offset) for offset, _ in senses
                 if wordnet.synsets[offset].visible]
        kinds = [kind for ancestors in above if not ancestors & eaten
                 for kind, root in roots.items() if root in ancestors]
        if kinds:
            found[name] = kinds[0]
    return found


def kinds_by_folder(names: Sequence[str], labels: Sequence[int], paths: Sequence[str],
                    words: dict[str, str]) -> dict[str, str]:
    """Return `{class name: kind}`, the kind of a class being `words` of a folder of its images.

    labels, paths: of some images that show all classes.
    """
    found = {}
    for label, path in zip(labels, paths, strict=True):
        folder = next((part for part in Path(path).parts if part in words), None)
        if folder:
            found[names[label]] = words[folder]
    return found


def _synset(wordnet, word):
    """The synset that has this word as a visible noun, the most frequent if there are several."""
    senses = [each for each in wordnet.senses[word] if wordnet.synsets[each[0]].visible]
    return max(senses, key=lambda each: each[1])[0]


def write_kinds(path: Path, kinds: dict[str, dict[str, str]]) -> None:
    """Write `{dataset: {class name: kind}}` as JSON, in one piece."""
    write_text(path, json.dumps(kinds, indent=1) + "\n")


def read_kinds(path: Path) -> dict[str, dict[str, str]]:
    """Return what `write_kinds` wrote; raises `MissingFile` saying what makes it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist; `dvc pull` fetches the embedded data, and "
                          "notebooks/09_captioning.ipynb makes it from WordNet") from None


def questions_about(photographs: Photographs, pictures: Pictures,
                    kinds: dict[str, dict[str, str]]) -> dict[str, list[Question]]:
    """Return `{dataset: [Question, ...]}` about photographs, those of the classes with a kind.

    kinds: `{dataset: {class name: kind}}`. Of each photograph it is asked what kind of thing it
    shows, and whether it is alive or, where no kind is alive, whether it is of the first kind.
    """
    second = {dataset: _second(list(known.values())) for dataset, known in kinds.items()}
    found: dict[str, list[Question]] = {dataset: [] for dataset in kinds}
    for image, label in enumerate(photographs.labels.tolist()):
        dataset = pictures.datasets[label]
        kind = kinds.get(dataset, {}).get(pictures.names[label])
        if kind:
            text, yes = second[dataset]
            found[dataset] += [Question(image, WHAT, (kind,)),
                               Question(image, text, ("yes" if kind in yes else "no",))]
    return found


def _second(kinds):
    """The question that is answered by yes or no, and the kinds for which it is yes."""
    if set(kinds) & set(ALIVE):
        return "Is it alive?", ALIVE
    return f"Is it a {kinds[0]}?", kinds[:1]


def read_vqa(questions: Path, annotations: Path) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return `(image id, question, ten answers)` of VQAv2's two JSON files, in their order.

    Raises `DatasetError` naming the file and what is wrong with it.
    """
    try:
        asked = {each["question_id"]: (each["image_id"], each["question"])
                 for each in json.loads(questions.read_text(encoding="utf-8"))["questions"]}
        told = {each["question_id"]: tuple(answer["answer"] for answer in each["answers"])
                for each in json.loads(annotations.read_text(encoding="utf-8"))["annotations"]}
    except FileNotFoundError as error:
        raise DatasetError(f"{error.filename} does not exist") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{questions} and {annotations} are not VQAv2's files of questions and "
                           f"annotations ({type(error).__name__}: {error})") from None
    lacking = asked.keys() - told.keys()
    if lacking:
        raise DatasetError(f"{annotations} has no answers to {len(lacking)} questions of "
                           f"{questions}, e.g. {min(lacking)}; take the files of one split")
    return [(*asked[number], told[number]) for number in asked]


def examples(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Return `count` questions about training images, with different images, drawn by `seed`."""
    order = random.Random(seed).sample(range(len(questions)), len(questions))
    chosen: dict[int, Question] = {}
    for number in order:
        if len(chosen) == count:
            break
        chosen.setdefault(questions[number].image, questions[number])
    return list(chosen.values())
