"""Parsing replies, the log, corpora and stored descriptions."""

import json
from collections import Counter

import pytest
from conftest import CLASSES, SHARED, changed
from llm_server import completion

from promptstudy.errors import CorpusError, DamagedFile, ParamsError
from promptstudy.llm import descriptions
from promptstudy.llm.corpora import plain_name, read_corpus
from promptstudy.llm.log import ReplyLog, log_path, read_log
from promptstudy.llm.parse import parse, read_completion, split_reply
from promptstudy.llm.queries import read_queries, requests
from promptstudy.params import load_params


@pytest.fixture
def params(own_suite):
    return load_params(own_suite / "params.yaml")


def record(params, *bodies, name="shapes", class_names=("emu",)):
    """Log bodies as the replies to the first requests."""
    with ReplyLog(log_path(params, name)) as log:
        for request, body in zip(requests(params, name, class_names), bodies, strict=False):
            log.append(request, body)


def split(text, finish_reason="stop", **message):
    return split_reply(read_completion(completion(text, finish_reason, **message)).choices[0])


@pytest.mark.parametrize("text, sentences", [
    ("An emu is tall. It has brown feathers!", ["An emu is tall.", "It has brown feathers!"]),
    ("1. An emu is tall.\n2. It is 1.9 m high.", ["An emu is tall.", "It is 1.9 m high."]),
    ("- **An emu** is tall.\n\n* It runs on grass.", ["An emu is tall.", "It runs on grass."]),
    ("\"An emu is tall.\"", ["An emu is tall."]),
    ("An emu is\nnot a sentence here. But this one is.", ["not a sentence here.",
                                                                "But this one is."]),
    ("A sign says I can't swim. It is red and white.", ["A sign says I can't swim.",
                                                       "It is red and white."]),
    ("- Petals: red, layered\n- **Stem**: long;\n* red leaves", [
        "Petals: red, layered.", "Stem: long.", "red leaves."]),
    ("Features:\n1. Red petals\n2) Long stem, thorns", ["Red petals.", "Long stem, thorns."]),
    ("• **Petals:**\n  – red, layered", ["red, layered."]),
    ("<think>It is a bird. I think so.</think>\n\nAn emu is tall.", ["An emu is tall."]),
    ("It is a bird. So be it.\n</think>\nAn emu is tall.", ["An emu is tall."]),
    ("花瓣是红色的。叶子是绿色的！", ["花瓣是红色的。", "叶子是绿色的！"]),
    ("1、花瓣：红色，多层\n2、叶子：绿色", ["花瓣：红色，多层。", "叶子：绿色。"]),
    ("とても赤い花です。葉は緑です。", ["とても赤い花です。", "葉は緑です。"]),
    ("꽃은 빨갛습니다. 잎은 초록색입니다.", ["꽃은 빨갛습니다.", "잎은 초록색입니다."]),
    ("नीले रंग का फूल है। पत्ते हरे हैं।", ["नीले रंग का फूल है।", "पत्ते हरे हैं।"]),
    ("الزهرة حمراء. الأوراق خضراء.", ["الزهرة حمراء.", "الأوراق خضراء."]),
    ("Цветок красный. Листья зелёные!", ["Цветок красный.", "Листья зелёные!"]),
    ("ดอกไม้สีแดงขนาดเล็ก", ["ดอกไม้สีแดงขนาดเล็ก"]),
])
def test_sentences(text, sentences):
    kept, left_out = split(text)
    assert kept == sentences


@pytest.mark.parametrize("text, finish_reason, kept, reason", [
    ("It is tall and brown. It has long", "length", 1, "cut off"),
    ("It is tall and brown. It has long", "stop", 1, "not a sentence"),
    ("I'm sorry, but I can't help with that.", "stop", 0, "refusal"),
    ("I’m sorry, but I can’t help with that.", "stop", 0, "refusal"),
    ("Unfortunately, I cannot see it. It is tall and brown.", "stop", 0, "refusal"),
    ("It is tall and brown. I'm sorry, but I can't say more.", "stop", 1, "refusal"),
    ("抱歉，我无法描述这只鸟。", "stop", 0, "refusal"),
    ("As an AI language model, I have no eyes.", "stop", 0, "refusal"),
    ("<think>It is a bird, and so it", "length", 0, "thoughts"),
    ("<think>A bird.</think>It is tall and brown.", "stop", 1, "thoughts"),
    ("- It is tall and brown\n- It has long", "length", 1, "cut off"),
    ("- Emu\n- tall and brown", "stop", 1, "1 words"),
    ("花瓣是红色的。叶子是绿", "length", 1, "cut off"),
    ("花瓣是红色的。它很小吗？", "stop", 1, "question"),
    ("红色红色红色红色红色红色。", "stop", 0, "repeats itself"),
    ("红。", "stop", 0, "1 letters"),
    ("It is tall and brown.", "content_filter", 0, "refusal"),
    ("", "stop", 0, "empty"),
    ("  \n ", "length", 0, "empty"),
    (None, "stop", 0, "empty"),
    ("Sure! It is tall and brown.", "stop", 1, "preamble"),
    ("Here are two sentences:\nIt is tall and brown.", "stop", 1, "preamble"),
    ("It is tall and brown. What else is there?", "stop", 1, "question"),
    ("Tall.", "stop", 0, "1 words"),
    ("It is tall and tall and tall and tall and tall.", "stop", 0, "repeats itself"),
    ("Word " * 61 + "end.", "stop", 0, "62 words"),
])
def test_what_is_left_out_has_a_reason(text, finish_reason, kept, reason):
    sentences, left_out = split(text, finish_reason)
    assert len(sentences) == kept and [why for why, _ in left_out] == [reason]


def test_a_refusal_of_the_schema():
    assert split(None, refusal="No.") == ([], [("refusal", "No.")])


def test_bad_replies_are_passed_over_and_the_last_good_one_counts(params):
    record(params, completion("It was tall and brown."), completion("It runs on dry grass."))
    record(params, completion("It is tall and brown."), "<html>")
    asked = requests(params, "shapes", ["emu", "yak"])
    parsed = parse(asked, read_log(log_path(params, "shapes")))
    assert parsed.sentences == {"emu": ["It is tall and brown.", "It runs on dry grass."],
                                "yak": []}
    assert [(p.class_name, p.reason) for p in parsed.problems] == [("yak", "no reply yet")] * 2


def test_classes_of_one_name_are_asked_about_once(params):
    asked = requests(params, "shapes", ["emu", "yak", "emu"])
    assert [request.key for request in asked] == [
        request.key for request in requests(params, "shapes", ["emu", "yak"])]


def test_duplicates_are_listed(params):
    record(params, completion("It is tall and brown."), completion("It is TALL and brown."))
    parsed = parse(requests(params, "shapes", ["emu"]), read_log(log_path(params, "shapes")))
    assert parsed.sentences == {"emu": ["It is tall and brown."]}
    assert parsed.problems == [("emu", "duplicate", "It is TALL and brown.")]


@pytest.fixture
def log(params):
    """The path of a log of three replies."""
    record(params, *(completion(text) for text in ("It is tall.", "It runs.", "It is brown.")),
           class_names=["emu", "yak"])
    return log_path(params, "shapes")


def test_a_line_torn_by_a_crash_is_dropped_and_the_log_goes_on(params, log):
    assert read_log(log.with_name("none.jsonl")) == []
    content = log.read_bytes()
    log.write_bytes(content + content[:30])
    assert len(read_log(log)) == 3
    record(params, completion("It was tall."))
    assert log.read_bytes().startswith(content) and len(read_log(log)) == 4


@pytest.mark.parametrize("n_covered", [0, 1, 2])
def test_digests_that_are_behind_the_log_are_made_up_for(params, log, n_covered):
    digests = log.with_name("shapes.jsonl.sha256")
    whole = digests.read_bytes()
    digests.write_bytes(b"".join(whole.splitlines(True)[:n_covered]) + b"0123")
    assert len(read_log(log)) == 3
    record(params, completion("It was tall."))
    assert digests.read_bytes().startswith(whole) and len(read_log(log)) == 4


def test_a_log_of_old_is_read_and_covered_from_the_next_reply_on(params, log):
    digests = log.with_name("shapes.jsonl.sha256")
    digests.unlink()
    assert len(read_log(log)) == 3
    record(params)
    assert not digests.exists()
    record(params, completion("It was tall."))
    lines = log.read_bytes().splitlines(True)
    log.write_bytes(b"".join(lines[1:]))
    with pytest.raises(DamagedFile, match="line 1 is not the line that was written there"):
        read_log(log)


def damaged_logs():
    def edit(lines):
        return [lines[0].replace(b"tall", b"bald"), *lines[1:]]

    return [(edit, "line 1 has changed since it was written"),
            (lambda lines: lines[:2], "line 3 is missing or cut, and 3 lines were written"),
            (lambda lines: [*lines[:2], lines[2][:-5]], "line 3 is missing or cut"),
            (lambda lines: [*lines[:1], lines[1][:40]], "line 2 is missing or cut"),
            (lambda lines: [], "line 1 is missing or cut"),
            (lambda lines: [lines[0], lines[2], lines[1]], "line 2 is not the line that was"),
            (lambda lines: [lines[0], lines[0], *lines[1:]], "line 2 is not the line that was"),
            (lambda lines: lines[1:], "line 1 is not the line that was written there")]


@pytest.mark.parametrize("damage, message", damaged_logs())
def test_a_damaged_log_is_refused_and_left_as_it_is(params, log, damage, message):
    damaged = b"".join(damage(log.read_bytes().splitlines(True)))
    log.write_bytes(damaged)
    with pytest.raises(DamagedFile, match=f"shapes.jsonl, {message}.*shapes.jsonl.sha256"):
        read_log(log)
    with pytest.raises(DamagedFile, match=message):
        record(params, completion("It was tall."))
    assert log.read_bytes() == damaged


@pytest.mark.parametrize("text, message", [
    ("{query: [], queries: ['{}']}", "query: unknown key; did you mean 'queries'?"),
    ("queries: []", "queries: list should have at least 1 item"),
    ("queries: ['What is it?']", "'What is it.' needs {} once"),
    ("{queries: ['{}?'], subjects: {shapes: drawing}}", "'drawing' needs {} once"),
    ("{queries: ['{}?'], subjects: {shapes: '{name}'}}", "'{name}' needs {} once"),
    ("queries: ['{} or {name}?']", "'{} or {name}.' needs {} once, .*or {name}, for the class w"),
    ("queries: ['{} or {other}?']", "'{} or {other}.' needs {} once"),
    ("queries: ['{} or }?']", "'{} or }.' needs {} once"),
])
def test_faulty_queries_are_named(params, text, message):
    (params.root / "llm" / "queries.yaml").write_text(text)
    with pytest.raises(ParamsError, match=f"queries.yaml cannot be used:\\s+{message}"):
        read_queries(params)


def test_a_query_has_the_class_with_its_article_or_alone(params):
    (params.root / "llm" / "queries.yaml").write_text(
        "{queries: ['What is {}?', 'What is called {name}?']}")
    asked = [request.body["messages"][-1]["content"]
             for request in requests(params, "shapes", ["iris", "hourglass"])]
    assert asked == ["What is an iris?", "What is called iris?", "What is a hourglass?",
                     "What is called hourglass?"]


@pytest.mark.parametrize("one, other", [
    ("Yin_Yang", "yin yang"), ("water-lilly", "Water  Lilly"),
    ("Audi TT RS Coupe 2012", "2012 audi tt_rs coupe"), ("2012", "2012")])
def test_names_that_are_one_class(one, other):
    assert plain_name(one) == plain_name(other)


@pytest.mark.parametrize("one, other", [
    ("bass", "bass guitar"), ("boeing 737-200", "boeing 737-300"),
    ("2012 audi tt", "2011 audi tt"), ("707", "2007")])
def test_names_that_are_two_classes(one, other):
    assert plain_name(one) != plain_name(other)


@pytest.fixture
def corpus(params):
    """A function that writes a corpus for `shapes` and returns params that use it."""
    def write(text):
        (params.root / "corpus.json").write_text(text)
        return changed(params, llm=params.llm.model_copy(
            update={"corpora": {"shapes": "corpus.json"}}))
    return write


def test_corpus_is_matched_by_name_and_the_rest_listed(corpus):
    params = corpus(json.dumps({"Red_Disc": ["Round. ", "", "Round."], "PLAIN": ["Flat."],
                                "other": ["Nothing."]}))
    made = descriptions.describe(params, "shapes", CLASSES)
    assert list(made.texts) == CLASSES
    assert made.texts["red disc"] == ["Round."] and made.texts["plain"] == ["Flat."]
    assert made.texts["striped"] == ["a drawing of striped."]
    assert ("red disc", "2 empty or duplicate sentences", "") in made.problems
    reasons = Counter(problem.reason for problem in made.problems)
    assert reasons["not in the corpus"] == reasons["no sentence: has the prompt alone"] == 5


@pytest.mark.parametrize("text, message", [
    ("[", "is not valid JSON"), ("[1]", 'must look like {"class"'),
    ('{"emu": "tall"}', "it holds 'emu'"), ('{"emu": [1]}', "it holds 'emu'"),
    ('{"red_disc": ["a"], "Red Disc": ["b"]}', "'red_disc' and 'Red Disc' name the same class")])
def test_faulty_corpus(corpus, text, message):
    params = corpus(text)
    with pytest.raises(CorpusError) as caught:
        descriptions.describe(params, "shapes", CLASSES)
    assert "corpus.json" in str(caught.value) and message in str(caught.value)


def test_missing_corpus(corpus):
    params = corpus("{}")
    (params.root / "corpus.json").unlink()
    with pytest.raises(CorpusError, match="does not exist; correct llm.corpora"):
        descriptions.describe(params, "shapes", CLASSES)


@pytest.fixture
def products(params):
    """Params with products of `shapes` as Grocery Store's classes.csv lists them."""
    folder = params.root / "images" / "store"
    (folder / "texts").mkdir(parents=True)
    rows = ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
            "Iconic Image Path (str),Product Description Path (str)"]
    for number, (product, coarse) in enumerate([("Ruby", "Red-Disc"), ("Pearl", "plain"),
                                                ("Rose", "Red-Disc")]):
        (folder / "texts" / f"{product}.txt").write_text(f"{product} is a\nfine product.\n")
        rows.append(f"{product},{number},{coarse},0,/x.jpg,/texts/{product}.txt")
    (folder / "classes.csv").write_text("\n".join(rows))
    shapes = params.datasets["shapes"].model_copy(update={"human": "store/classes.csv"})
    return changed(params, datasets={**params.datasets, "shapes": shapes})


def test_products_are_sentences_of_their_coarse_class(products):
    found = descriptions.load_references(products, "shapes", ["plain", "red disc"], ["human"])
    assert found == {"human": {
        "plain": ["a drawing of plain. Pearl is a fine product."],
        "red disc": ["a drawing of red disc. Ruby is a fine product.",
                     "a drawing of red disc. Rose is a fine product."]}}


def test_references_are_of_every_source_once(products):
    made = descriptions.describe(products, "shapes", ["plain", "red disc"])
    descriptions.save(descriptions.path_of(products, "shapes"), made)
    found = descriptions.load_references(products, "shapes", ["plain", "red disc"],
                                         ["llm", "human", "llm"])
    assert list(found) == ["human", "llm"] and found["llm"] == made.texts


def test_human_sentences_that_are_not_there_are_named(products, params):
    with pytest.raises(CorpusError, match="store/classes.csv: no sentence for 'striped'"):
        descriptions.load_references(products, "shapes", ["plain", "striped"], ["human"])
    with pytest.raises(CorpusError, match="datasets.shapes.human names no file"):
        descriptions.load_references(params, "shapes", CLASSES, ["human"])
    (params.root / "images" / "store" / "classes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CorpusError, match="no column 'Product Description Path"):
        descriptions.load_references(products, "shapes", ["plain"], ["human"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the development data")
def test_a_real_corpus_names_every_class_of_the_suite():
    split = json.loads((SHARED / "splits" / "split_zhou_StanfordCars.json").read_text())
    names = sorted({name for items in split.values() for _, _, name in items})
    path = SHARED / "descriptions" / "vdt_gpt4_stanford_cars.json"
    assert [problem for problem in read_corpus(path, names).problems
            if problem.reason == "not in the corpus"] == []


def test_sentences_come_behind_the_prompt_and_no_class_is_empty(params):
    record(params, completion("It is tall. It runs on grass."))
    made = descriptions.describe(params, "shapes", ["emu", "yak"])
    assert made.texts == {"emu": ["a drawing of emu. It is tall.",
                                  "a drawing of emu. It runs on grass."],
                          "yak": ["a drawing of yak."]}
    assert {(p.class_name, p.reason) for p in made.problems} == {
        ("emu", "no reply yet"), ("yak", "no reply yet"),
        ("yak", "no sentence: has the prompt alone")}


def test_stored_descriptions_come_back_or_are_refused(params):
    record(params, completion("It is tall. It runs on grass."))
    made = descriptions.describe(params, "shapes", ["emu", "yak"])
    path = descriptions.path_of(params, "shapes")
    with pytest.raises(FileNotFoundError, match="run `dvc repro describe`"):
        descriptions.load_descriptions(params, "shapes", ["emu", "yak"])
    descriptions.save(path, made)
    assert descriptions.load_descriptions(params, "shapes", ["emu", "yak"]) == made
    with pytest.raises(DamagedFile, match="was made with class_names"):
        descriptions.load_descriptions(params, "shapes", ["yak", "emu"])
    other = changed(params, llm=params.llm.model_copy(update={"model": "other"}))
    with pytest.raises(DamagedFile, match="was made with settings"):
        descriptions.load_descriptions(other, "shapes", ["emu", "yak"])
    for damage in (path.read_text().replace("tall", "bald"), path.read_text()[:-9], "[]",
                   path.read_text().replace("no reply yet", "no reply"),
                   path.read_text().replace('"problems": [', '"problems": [["emu", "lost", ""],')):
        path.write_text(damage)
        with pytest.raises(DamagedFile, match="has changed since it was written"):
            descriptions.load_descriptions(params, "shapes", ["emu", "yak"])
