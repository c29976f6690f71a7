"""LiMBeR and AAPE on top of it: the frozen language model, the losses, learning, the answers."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from plain import difference
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from promptstudy.captioning import learning
from promptstudy.captioning.evidence import CIDER, Scores, claims
from promptstudy.captioning.learning import Recipe, clip_runs, learn, rate
from promptstudy.captioning.limber import DROPOUT, LONGEST, Captions, Limber, LimberAAPE
from promptstudy.captioning.pictures import Pictures
from promptstudy.captioning.questions import (
    WHAT,
    Question,
    examples,
    kinds_by_folder,
    kinds_by_wordnet,
    questions_about,
    read_vqa,
)
from promptstudy.captioning.scores import (
    cider_d,
    clip_score,
    cut,
    normalised,
    ref_clip_score,
    vqa_accuracy,
)
from promptstudy.captioning.study import (
    AAPE,
    BLIND,
    CONDITIONS,
    HOST,
    PERCEPTRON,
    RANDOM,
    VARIANTS,
    Study,
)
from promptstudy.claims.comparisons import decide
from promptstudy.errors import DatasetError, MissingFile
from promptstudy.llm.frozen import IGNORED, LanguageModel, ended
from promptstudy.methods.losses import Batch
from promptstudy.notebooks import run_notebook
from promptstudy.params.methods.aape import OTHERS_AAPE, AAPEVariant

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "09_captioning.ipynb"
WORDS = "a drawing of red green blue yellow disc square stripes checks plain thing is it kind what"
SEEDS = (1, 2)
RECIPE = Recipe(steps=6, batch_size=4, warmup=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A language model of two layers with random weights, in 32 bits."""
    folder = tmp_path_factory.mktemp("model")
    words = ["<end>", "<unk>", ".", "?", ":", "Q", "A", "\n", *dict.fromkeys(WORDS.split())]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>",
                            unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, eos_token_id=0, bos_token_id=None,
        initializer_range=0.5)).save_pretrained(folder)
    return LanguageModel(folder, torch.float32)


@pytest.fixture(scope="module")
def task(trained):
    return trained


@pytest.fixture(scope="module")
def pictures(task):
    return Pictures([task], 2, SEEDS, 2)


@pytest.fixture(scope="module")
def captions(model, pictures):
    return Captions(model, pictures.captions)


def built(pictures, captions, kind, seeds=SEEDS, **changes):
    shown = pictures.train.features, pictures.train.labels, captions
    if kind is Limber:
        return Limber(*shown, seeds)
    return LimberAAPE(*shown, AAPEVariant(**changes), 20.0, seeds, pictures.prompts())


def batch_of(pictures, size=4, runs=2):
    index = torch.stack([torch.arange(size) + run for run in range(runs)])
    return Batch(index, pictures.train.features[index], pictures.train.labels[index])


# The frozen language model

def test_losses_are_those_of_the_plain_model(model):
    """Each token's loss against the library's own, a caption at a time and without padding."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, model.dim, generator=generator)
    captions = torch.tensor([[9, 3, 4, 0], [5, 0, IGNORED, IGNORED], [7, 8, 0, IGNORED]])
    found = model.losses(images, captions)
    for image, caption, losses in zip(images, captions, found, strict=True):
        real = caption[caption != IGNORED]
        read = torch.cat([model.begin, image, model.embeddings[real]])[None]
        logits = model.network(inputs_embeds=read).logits[0, 2:-1]
        assert difference(losses[:len(real)],
                          F.cross_entropy(logits, real, reduction="none")) < 1e-5
        assert not losses[len(real):].any()


def test_gradients_reach_the_image_and_not_the_model(model):
    images = torch.randn(2, 1, model.dim, generator=torch.Generator().manual_seed(0),
                         requires_grad=True)
    model.losses(images, torch.tensor([[9, 3], [4, 0]])).sum().backward()
    assert images.grad.abs().min() > 0
    assert not any(p.requires_grad or p.grad is not None for p in model.network.parameters())


def test_texts_are_completed_together_as_one_by_one(model):
    prompts = [model.embedded(text) for text in ("a red disc", "a", "what is it", "a blue square")]
    together = model.complete(prompts, 8)
    assert together == [model.complete([prompt], 8)[0] for prompt in prompts]
    assert any(together)


def test_a_completion_is_the_likeliest_token_after_another(model):
    prompt, said = model.embedded("a red disc is"), []
    for _ in range(5):
        logits = model.network(inputs_embeds=prompt[None]).logits[0, -1]
        token = int(logits.argmax())
        if token in (model.end, *model.ids("."), *model.ids("\n")):
            break
        said.append(token)
        prompt = torch.cat([prompt, model.embeddings[[token]]])
    expected = model.tokenizer.decode(said, skip_special_tokens=True)
    assert model.complete([model.embedded("a red disc is")], 5) == [ended(expected)]


@pytest.mark.parametrize(("text", "expected"), [
    (" A cat. It sleeps.", "A cat."), ("a cat\nand more.", "a cat"), ("a cat", "a cat"), ("", "")])
def test_a_text_ends_with_its_first_sentence_or_line(text, expected):
    assert ended(text) == expected


def test_a_missing_model_is_one_clear_error(tmp_path):
    with pytest.raises(MissingFile, match="no language model with safetensors at .*nowhere"):
        LanguageModel(tmp_path / "nowhere")


def test_no_pickle_is_loaded(model, tmp_path):
    """Weights as `torch.save` writes them are refused, although the model would fit."""
    folder = Path(shutil.copytree(model.tokenizer.name_or_path, tmp_path / "pickled"))
    torch.save(model.network.state_dict(), folder / "pytorch_model.bin")
    LanguageModel(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFile, match="no language model with safetensors at"):
        LanguageModel(folder)


# Captions and maps

def test_captions_are_padded_cut_and_drawn_from_their_label(model):
    long = " ".join(["red"] * 40)
    captions = Captions(model, [["a red disc", long], [long], ["blue", "green", "a"]])
    assert captions.counts.tolist() == [1, 1, 3] and captions.tokens.shape == (3, 3, LONGEST)
    assert (captions.tokens[1, 0] != IGNORED).all()
    labels = torch.tensor([[2] * 300])
    drawn = captions.draw(labels, [torch.Generator().manual_seed(0)])[0]
    counts = [int((drawn == caption).all(dim=1).sum()) for caption in captions.tokens[2]]
    assert sum(counts) == 300 and min(counts) > 60


def test_a_map_starts_at_the_least_squares_map(pictures, captions):
    """At first no linear map fits the words better, but for the ridge and the scale."""
    method = built(pictures, captions, Limber).eval()
    reader, words = method.reader, captions.words(pictures.train.labels)
    tokens = reader(pictures.train.features.expand(2, -1, -1))
    assert torch.equal(tokens[0], tokens[1])
    assert tokens.square().mean().sqrt().item() == pytest.approx(captions.model.rms, rel=1e-4)
    inputs = (pictures.train.features - reader.mean) / reader.scale
    with_ridge = torch.cat([inputs, 10 * torch.eye(inputs.shape[1])])
    solution = torch.linalg.lstsq(with_ridge, F.pad(words, (0, 0, 0, inputs.shape[1]))).solution
    assert F.cosine_similarity(tokens[0].flatten(), (inputs @ solution).flatten(), dim=0) > 0.9999


def test_dropout_leaves_out_a_tenth_and_keeps_the_mean(pictures, captions):
    method = built(pictures, captions, Limber, seeds=(1,))
    features = pictures.train.features[:1].expand(1, 400, -1)
    kept = method.reader(features) / method.eval().reader(features[:, :1])
    share = (kept.abs() < 1e-6).float().mean()
    assert abs(share - DROPOUT) < 0.02 and abs(kept.mean() - 1) < 0.03


@pytest.mark.parametrize("kind", (Limber, LimberAAPE))
def test_each_run_is_what_it_would_be_alone(pictures, captions, kind):
    together, alone = built(pictures, captions, kind), built(pictures, captions, kind, seeds=(2,))
    batch = batch_of(pictures)
    for method, numbers in ((together, SEEDS), (alone, (2,))):
        for seed, generator in zip(numbers, method.generators, strict=True):
            generator.manual_seed(seed)
    losses = together.loss(batch)
    assert difference(losses[1:], alone.loss(Batch(*(part[1:] for part in batch)))) < 1e-5


def test_gradients_reach_exactly_what_is_learned(pictures, captions):
    """The distillation's teacher is not drawn to its pupil; L_task teaches both maps and p."""
    method = built(pictures, captions, LimberAAPE, mu=0.0)
    method.loss(batch_of(pictures)).sum().backward()
    moved = {name.split(".")[0] for name, p in method.named_parameters()
             if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"reader", "prompt_reader", "generator"}
    method = built(pictures, captions, LimberAAPE)
    method.loss(batch_of(pictures)).sum().backward()
    moved = {name.split(".")[0] for name, p in method.named_parameters()
             if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"reader", "prompt_reader", "generator", "aggregator"}


def test_at_first_the_aape_is_the_image(pictures, captions):
    method = built(pictures, captions, LimberAAPE).eval()
    features = pictures.test.features.expand(2, -1, -1)
    tokens = method.tokens(features)
    assert tokens.shape[2] == 2 and difference(tokens[:, :, 0], tokens[:, :, 1]) < 1e-5
    other = features.roll(1, dims=1)
    assert torch.equal(method.tokens(features, other)[:, :, 0], tokens[:, :, 0])


# Learning

def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    rates = [rate(Recipe(steps=100, batch_size=1, warmup=10), step) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[-1] == pytest.approx(1 / 90)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_only_runs_with_a_large_gradient_are_clipped():
    one, other = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(2))
    one.grad, other.grad = torch.tensor([[3.0, 0, 0], [.1, 0, 0]]), torch.tensor([[0, 4.0, 0]] * 2)
    other.grad[1] = 0.2
    before = other.grad.clone()
    clip_runs([one, other], 1.0)
    assert one.grad[0, 0] == pytest.approx(0.6) and other.grad[0, 1] == pytest.approx(0.8)
    assert one.grad[1, 0] == pytest.approx(0.1) and torch.equal(other.grad[1], before[1])


@pytest.mark.parametrize("kind", (Limber, LimberAAPE))
def test_learning_goes_on_after_a_kill_as_if_there_had_been_none(
        pictures, captions, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "EVERY", 2)
    args = pictures.train.features, pictures.train.labels, pictures.draws, RECIPE, SEEDS
    record = {"variant": "test"}
    whole = built(pictures, captions, kind)
    losses = learn(whole, *args, tmp_path / "whole.safetensors", record)

    killed, steps = built(pictures, captions, kind), []
    loss = killed.loss

    def dies(batch):
        steps.append(batch)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return loss(batch)

    killed.loss = dies
    with pytest.raises(KeyboardInterrupt):
        learn(killed, *args, tmp_path / "killed.safetensors", record)
    again = built(pictures, captions, kind)
    assert torch.equal(learn(again, *args, tmp_path / "killed.safetensors", record), losses)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, dict(again.named_parameters())[name]), name
    third = built(pictures, captions, kind)
    third.loss = None  # nothing is learned twice
    assert torch.equal(learn(third, *args, tmp_path / "killed.safetensors", record), losses)
    assert (tmp_path / "killed.safetensors").read_bytes() == \
        (tmp_path / "whole.safetensors").read_bytes()


# Pictures and questions

def test_unseen_classes_are_in_no_training_image(pictures):
    assert pictures.unseen.tolist() == [False, False, True, False, False, True, False]
    assert not pictures.unseen[pictures.train.labels].any()
    assert set(pictures.test.labels.tolist()) == set(range(7))
    for draws in pictures.draws:
        labels = pictures.train.labels[draws]
        assert labels.bincount()[~pictures.unseen[:len(labels.bincount())]].tolist() == [2] * 5
    places = pictures.places()
    assert sum(map(len, places.values())) == len(pictures.test.labels)
    assert pictures.unseen[pictures.test.labels[places["shapes", "unseen"]]].all()


def test_captions_do_not_repeat_the_prompt(pictures, task):
    for name, own in zip(pictures.names, pictures.captions, strict=True):
        prompt = task.template.format(name)
        assert own and all(text and not text.startswith(f"{prompt} ") for text in own)


def test_wordnet_says_what_kind_a_thing_is():
    from promptstudy.pocket.vocabulary import Synset, WordNet
    kinds = {"beast": 1, "flora": 2, "musical instrument": 3, "vehicle": 4, "weapon system": 5,
             "article of furniture": 6, "edifice": 7, "edible fruit": 8, "nutrient": 9, "tool": 10,
             "container": 11, "device": 12, "animate being": 1, "seafood": 13, "meat": 14}
    synsets = {offset: Synset(offset, 6, (word,), (9,) * (offset in (13, 14)), (), False, "")
               for word, offset in kinds.items()}
    own = {"lobster": [(20, (13,), 5), (21, (1,), 1)], "crocodile": [(22, (1,), 0)],
           "idea": [(23, (1,), 0)], "piano": [(24, (3,), 0)]}
    senses = {word: [(offset, 1)] for word, offset in kinds.items()}
    for word, entries in own.items():
        senses[word] = [(offset, count) for offset, _, count in entries]
        synsets |= {offset: Synset(offset, 9 if word == "idea" else 6, (word,), parents, (), False,
                                   "") for offset, parents, _ in entries}
    found = kinds_by_wordnet(WordNet(synsets, senses, []), [
        "lobster", "Crocodile head", "idea", "piano", "grand piano", "unheard"])
    assert found == {"lobster": "animal", "Crocodile head": "animal", "piano": "instrument"}


def test_folders_say_what_kind_a_thing_is():
    found = kinds_by_folder(["apple", "juice", "pen"], [0, 1, 2], [
        "train/Fruit/Apple/1.jpg", "train/Packages/Juice/1.jpg", "train/Else/Pen/1.jpg"],
        {"Fruit": "fruit", "Packages": "package"})
    assert found == {"apple": "fruit", "juice": "package"}


def test_two_questions_are_asked_about_a_photograph(pictures):
    kinds = {"shapes": {"red disc": "disc", "blue square": "square"}}
    asked = questions_about(pictures.test, pictures, kinds)["shapes"]
    images = [i for i, label in enumerate(pictures.test.labels.tolist())
              if pictures.names[label] in kinds["shapes"]]
    assert [question.image for question in asked] == [i for i in images for _ in range(2)]
    first, last = asked[:2], asked[-2:]  # of a blue square and of a red disc
    assert first[0][1:] == (WHAT, ("square",)) and first[1][1:] == ("Is it a disc?", ("no",))
    assert last[0][1:] == (WHAT, ("disc",)) and last[1][1:] == ("Is it a disc?", ("yes",))
    alive = questions_about(pictures.test, pictures, {"shapes": {"red disc": "animal"}})["shapes"]
    assert alive[1][1:] == ("Is it alive?", ("yes",))


def test_examples_are_drawn_by_the_seed_from_different_images():
    questions = [Question(i // 2, f"{i}?", ("yes",)) for i in range(20)]
    drawn = examples(questions, 4, seed=1)
    assert drawn == examples(questions, 4, seed=1) != examples(questions, 4, seed=2)
    assert len({question.image for question in drawn}) == 4
    assert examples(questions, 2, seed=1) == drawn[:2] and examples(questions, 0, seed=1) == []


def test_vqav2_is_read_as_it_is(tmp_path):
    questions, annotations = tmp_path / "questions.json", tmp_path / "annotations.json"
    questions.write_text(json.dumps({"questions": [
        {"question_id": 10, "image_id": 5, "question": "What colour?"},
        {"question_id": 11, "image_id": 5, "question": "How many?"}]}))
    told = [{"question_id": number, "answers": [{"answer": text, "answer_id": i}
                                                for i in range(10)]}
            for number, text in ((11, "2"), (10, "red"))]
    annotations.write_text(json.dumps({"annotations": told}))
    assert read_vqa(questions, annotations) == [(5, "What colour?", ("red",) * 10),
                                                (5, "How many?", ("2",) * 10)]
    annotations.write_text(json.dumps({"annotations": told[:1]}))
    with pytest.raises(DatasetError, match="no answers to 1 questions of .*e.g. 10"):
        read_vqa(questions, annotations)
    annotations.write_text("[]")
    with pytest.raises(DatasetError, match="not VQAv2's files"):
        read_vqa(questions, annotations)
    with pytest.raises(DatasetError, match="absent.json does not exist"):
        read_vqa(tmp_path / "absent.json", annotations)


# Scores

CAPTIONS = ["a dog runs on the grass", "two cats", "a red car parked by the street", "bird"]
REFERENCES = [["a dog is running on grass", "the dog runs"],
              ["two cats sleep", "cats on a bed", "two cats"],
              ["a red car in the street", "car by a road", "red car"],
              ["a small bird sits here on the wire"]]


def test_cider_d_equals_its_reference_code():
    """The values are those of pycocoevalcap 1.2, by its authors, for these sentences."""
    expected = [2.21937028, 3.30879741, 2.17715357, 0.56128682]
    assert cider_d(CAPTIONS, REFERENCES) == pytest.approx(expected, abs=1e-8)


def test_cider_d_by_hand_and_at_its_limits():
    perfect = cider_d(["a b c d e", "f g h i j"], [["a b c d e"], ["f g h i j"]])
    assert perfect == pytest.approx([10, 10])
    assert cider_d(["x y", "f g"], [["a b c"], ["d e"]]).tolist() == [0, 0]
    # only words: the second reference shares "dog" alone, of idf log 2, as all others
    found = cider_d(["dog", "cat"], [["dog"], ["cat"]])
    assert found == pytest.approx([10 / 4] * 2)
    shorter = cider_d(["dog", "cat"], [["dog barks loudly"], ["cat"]])[0]
    assert shorter == pytest.approx(10 / 4 / 3 ** 0.5 * 2.718281828 ** (-4 / 72), rel=1e-5)
    with pytest.raises(ValueError, match="two images"):
        cider_d(["dog"], [["dog"]])


def test_clip_scores_by_hand():
    images = F.normalize(torch.tensor([[1.0, 0], [0, 1], [1, 1]]), dim=1)
    said = F.normalize(torch.tensor([[1.0, 0], [0, -1], [1, 0]]), dim=1)
    score = clip_score(images, said)
    assert difference(score, torch.tensor([2.5, 0, 2.5 / 2 ** 0.5])) < 1e-6
    references = [torch.tensor([[0.6, 0.8], [1, 0]]), torch.tensor([[0, 1.0]]),
                  torch.tensor([[0.6, 0.8]])]
    third = 2 * (2.5 / 2 ** 0.5) * 0.6 / (2.5 / 2 ** 0.5 + 0.6)
    assert difference(ref_clip_score(score, said, references),
                      torch.tensor([2 * 2.5 / 3.5, 0, third])) < 1e-6


@pytest.mark.parametrize(("answer", "answers", "expected"), [
    ("yes", ["yes"], 1), ("Yes", ["yes"], 1), ("no", ["yes"], 0),
    ("red", ["red"] * 10, 1), ("red", ["red"] * 9 + ["blue"], 1),
    ("blue", ["red"] * 9 + ["blue"], 0.3), ("blue", ["red"] * 8 + ["blue"] * 2, 0.6),
    ("blue", ["red"] * 7 + ["blue"] * 3, 0.9), ("green", ["red"] * 9 + ["blue"], 0),
    ("The two dogs.", ["2 dogs"] * 5 + ["dogs"] * 5, 1)])
def test_vqa_accuracy_by_hand(answer, answers, expected):
    assert vqa_accuracy(answer, answers) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [
    ("A Dog!", "dog"), ("two", "2"), ("1,000", "1000"), ("3.5", "3.5"), ("the end.", "end"),
    ("black/white", "black white")])
def test_answers_are_compared_as_vqa_does(text, expected):
    assert normalised(text) == expected


def test_an_answer_is_cut_to_the_longest_right_one():
    assert cut("a dog, I think", ["dog", "a dog"]) == "a dog"
    assert cut("dog Q: what", ["dog house"]) == "dog" and cut("", ["dog"]) == ""


# All together

@pytest.fixture(scope="module")
def study(pictures, model, tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    noise = {split: F.normalize(torch.randn(getattr(pictures, split).features.shape,
                                            generator=generator), dim=1)
             for split in ("train", "val", "test")}
    study = Study(pictures, noise, model, 20.0, SEEDS, tmp_path_factory.mktemp("learned"))
    study.losses = study.learn(RECIPE)
    return study


def test_everything_is_said_scored_and_decided(study, pictures, task):
    kinds = {"shapes": {"red disc": "disc", "blue square": "square", "green disc": "disc"}}
    asked = questions_about(pictures.test, pictures, kinds)["shapes"]
    known = questions_about(pictures.train, pictures, kinds)["shapes"]
    scores = Scores(pictures, SEEDS)
    for condition in CONDITIONS:
        said = study.captions(condition, "test", "a")
        assert len(said) == 2 and len(said[0]) == len(pictures.test.labels)
        scores.add_captions(condition, said)
        for shots in (0, 1, 2, 4):
            scores.add_answers("shapes", condition, shots, asked,
                               study.answers(condition, asked, known, shots))
    table = scores.table(task.params)
    assert set(table["variant"]) == set(CONDITIONS)
    captioned = table[(table["protocol"] == "captioning") & (table["metric"] == CIDER)]
    assert len(captioned) == len(CONDITIONS) * 2 * 2
    blind = captioned[captioned["variant"] == BLIND]
    assert blind.groupby("subset")["value"].nunique().eq(1).all()  # the same for all runs
    decisions = decide(list(claims(scores)))
    assert len(decisions) == 5 * 2 * 5


def test_conditions_differ_in_what_they_are_named_after(study, pictures):
    tokens = {name: study.tokens(name, "test") for name in CONDITIONS}
    assert tokens[BLIND] is None
    assert tokens[HOST].shape[2] == tokens[RANDOM].shape[2] == 1
    assert not torch.equal(tokens[HOST], tokens[RANDOM])
    own, other = tokens[AAPE], tokens[OTHERS_AAPE]
    assert own.shape == tokens[PERCEPTRON].shape and not torch.equal(own, tokens[PERCEPTRON])
    assert torch.equal(own[:, :, 0], other[:, :, 0])
    assert torch.equal(own[:, :, 1].roll(own.shape[1] // 2, dims=1), other[:, :, 1])


def test_the_perceptron_alone_hears_no_text(pictures, captions):
    """Its loss has no gradient for what the texts teach, and the aggregator is left as it was."""
    for name, variant in VARIANTS.items():
        method = built(pictures, captions, LimberAAPE, **variant.model_dump(exclude={"name"}))
        method.loss(batch_of(pictures)).sum().backward()
        moved = any(p.grad is not None and p.grad.any() for key, p in method.named_parameters()
                    if "aggregator" in key)
        assert moved == (name == AAPE)


@pytest.mark.slow
def test_the_notebook_runs_on_another_suite(project, model, tmp_path, monkeypatch):
    folder = tmp_path / "captioning"
    folder.mkdir()
    (folder / "kinds.json").write_text(json.dumps({"shapes": {
        "red disc": "disc", "blue square": "square", "green disc": "disc", "checked": "square"}}))
    monkeypatch.setenv("PROMPTSTUDY_PARAMS", str(project / "params.yaml"))
    page = tmp_path / "page.html"
    values = {"language_model": model.tokenizer.name_or_path, "folder": str(folder), "shots": 2,
              "runs": 2, "per_class": 2, "steps": 3, "batch_size": 4}
    run_notebook(NOTEBOOK, values, tmp_path / "executed.ipynb", page)
    assert "AAPE helps LiMBeR" in page.read_text()
    table = pd.read_csv(project / "reports" / "captioning.csv")
    assert set(table["dataset"]) == {"shapes", "figures"} and set(table["seed"]) == {1, 2}
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == {"kinds.json", "random_tower.safetensors", "random_encoder.safetensors",
                         "LiMBeR.safetensors", "LiMBeR_AAPE.safetensors",
                         "LiMBeR_perceptron.safetensors"}
    bits = (project / "reports" / "captioning.csv").read_bytes()
    run_notebook(NOTEBOOK, values, tmp_path / "executed.ipynb", page)
    assert made == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert bits == (project / "reports" / "captioning.csv").read_bytes()
