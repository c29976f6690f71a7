"""What `python -m promptstudy doctor` and `fetch` say of datasets that are there, or are not."""

import hashlib
import os
import shutil
import sys
import time

import miniature
import pytest
from conftest import changed
from test_layouts import NAMES, SIZES

from promptstudy.__main__ import main
from promptstudy.datasets.fetch import digest_of
from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.datasets.packs import FeaturePack
from promptstudy.datasets.root import pack_path
from promptstudy.datasets.sources import PIECES
from promptstudy.doctor import diagnose, overview
from promptstudy.params import load_params

pytestmark = pytest.mark.filterwarnings("ignore:.*the images are divided anew",
                                        "ignore:.*two classes share a name")


@pytest.fixture
def suite(own_suite, monkeypatch):
    """Params with all fifteen layouts, below an empty data_root of their own."""
    for name, layout in LAYOUTS.items():
        sizes = len(NAMES[name]), *SIZES.get(name, (15, 6, 9))
        monkeypatch.setitem(LAYOUTS, name, layout._replace(sizes=sizes))
    (own_suite / "data_root").mkdir()
    return changed(load_params(own_suite / "params.yaml"), data_root=own_suite / "data_root",
                   **miniature.every_layout())


def build(suite, name, monkeypatch):
    """Build a miniature whose files' digests are the known ones; return its folder."""
    folder = miniature.build(suite.data_root, name)
    monkeypatch.setitem(PIECES, name, [
        piece._replace(digest=digest_of(folder / piece.makes, piece.digest))
        if piece.digest and (folder / piece.makes).is_file() else piece for piece in PIECES[name]])
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_whole_dataset_is_present(suite, monkeypatch, name):
    build(suite, name, monkeypatch)
    finding = diagnose(suite, name)
    sizes = SIZES.get(name, (15, 6, 9))
    assert finding.state == "present", finding
    assert finding.found.startswith(f"{len(NAMES[name])} classes, "
                                    f"{' / '.join(map(str, sizes))} images")
    # the split file is worth getting where folders alone do not tell CoOp's division
    assert ("divided anew" in finding.found) == bool(finding.todo) == (not LAYOUTS[name].exact)
    assert all(LAYOUTS[name].split in todo for todo in finding.todo)


@pytest.mark.parametrize("name", LAYOUTS)
def test_nothing_at_all(suite, name):
    finding = diagnose(suite, name)
    assert finding.state == "missing"
    assert finding.found == ", ".join(piece.makes for piece in PIECES[name])
    for piece, todo in zip(PIECES[name], finding.todo, strict=True):
        assert piece.url in todo
        if piece.by_hand:
            assert todo.startswith("by hand: ")
            assert f"{suite.data_root / LAYOUTS[name].folder / piece.makes}" in todo
        else:
            assert f"`python -m promptstudy fetch {name}`: {piece.makes} from" in todo


def test_a_missing_piece_is_named_alone(suite, monkeypatch):
    shutil.rmtree(build(suite, "stanford_cars", monkeypatch) / "cars_test")
    finding = diagnose(suite, "stanford_cars")
    assert (finding.state, finding.found, len(finding.todo)) == ("missing", "cars_test", 1)


def test_class_names_of_imagenet_serve_its_versions(suite, monkeypatch):
    (build(suite, "imagenet_r", monkeypatch) / "classnames.txt").unlink()
    assert diagnose(suite, "imagenet_r").found == "classnames.txt"
    build(suite, "imagenet", monkeypatch)
    assert diagnose(suite, "imagenet_r").state == "present"


def unlink(*paths):
    return lambda folder: [(folder / path).unlink() for path in paths]


def changed_file(path):
    """A change of a few bytes that leaves the file readable."""
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes() + b"\n")


BROKEN = {
    "images gone": ("oxford_pets", unlink("images/Bombay_3.jpg", "images/Bombay_1.jpg"),
                    ["2 of 30 listed images are missing, e.g. ", "images/Bombay_1.jpg"]),
    "folder of images gone": ("ucf101", lambda folder: shutil.rmtree(
        folder / "UCF-101-midframes/Yo_Yo"), ["10 of 30 listed images are missing"]),
    "count": ("food101", unlink("images/waffles/0.jpg"),
              ["3 classes, 14 / 6 / 9 images; published: 3 classes, 15 / 6 / 9 images"]),
    "a class gone": ("imagenet_a", lambda folder: shutil.rmtree(folder / "imagenet-a/n01443537"),
                     ["1 classes, 0 / 0 / 10 images; published: 2 classes, 0 / 0 / 20"]),
    "digest": ("oxford_flowers", changed_file("imagelabels.mat"),
               ["imagelabels.mat has md5:", "published file has md5:", "is not a MATLAB file"]),
    "annotations": ("sun397", lambda folder: (folder / "ClassName.txt").write_text("/a/abbey\n"),
                    ["class '/a/apse/indoor' is not in the dataset's list"]),
    "class names": ("imagenet", lambda folder: (folder / "classnames.txt").write_text("a page\n"),
                    ["classnames.txt, line 1: a WordNet id and a class name are expected"]),
}


@pytest.mark.parametrize("name, damage, said", BROKEN.values(), ids=BROKEN)
def test_damage_is_broken_and_names_file_count_or_digest(suite, monkeypatch, name, damage, said):
    damage(build(suite, name, monkeypatch))
    finding = diagnose(suite, name)
    assert finding.state == "broken" and "remove the broken files" in finding.todo[0], finding
    assert all(words in finding.found for words in said), finding.found


def test_split_file_that_is_not_coops(suite, monkeypatch):
    folder = build(suite, "dtd", monkeypatch)
    assert diagnose(suite, "dtd").state == "present"
    (folder / "split_zhou_DescribableTextures.json").write_text("{}")
    assert diagnose(suite, "dtd").state == "broken"
    lists = {"train": [("banded/banded_0001.jpg", 0, "banded")], "val": [],
             "test": [("banded/banded_0002.jpg", 0, "banded")]}
    miniature.write_split(folder, "split_zhou_DescribableTextures.json", lists)
    found = diagnose(suite, "dtd").found
    assert "has sha256:" in found and "published file has sha256:f26ebeccd2b58e68" in found


def test_own_folders(own_suite):
    params = load_params(own_suite / "params.yaml")
    assert [diagnose(params, name).state for name in params.datasets] == ["present", "present"]
    (own_suite / "images" / "figures" / "pictures" / "red disc" / "000.png").unlink()
    shutil.rmtree(own_suite / "images" / "shapes")
    shapes, figures = (diagnose(params, name) for name in params.datasets)
    assert shapes.state == "broken" and "datasets.shapes.images: the folder" in shapes.found
    assert figures.state == "broken" and "1 of 48 listed images" in figures.found


def test_data_root_that_does_not_exist(suite):
    suite.data_root.rmdir()
    finding = diagnose(suite, "dtd")
    assert finding.state == "broken" and "data_root: the folder" in finding.found


def test_feature_packs(tiny_suite, tiny_pack, own_suite):
    params = changed(load_params(own_suite / "params.yaml"), data_root=None)
    finding = diagnose(params, "shapes")
    assert finding.state == "missing" and "dvc pull" in finding.todo[0]
    path = pack_path(params, "shapes")
    tiny_pack.save(path)
    finding = diagnose(params, "shapes")
    assert (finding.state, finding.found) == (
        "present", "feature pack: 7 classes, 35 / 14 / 21 images")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    finding = diagnose(params, "shapes")
    assert finding.state == "broken" and "SHA-256" in finding.found


@pytest.fixture(scope="module")
def tiny_pack(tiny_suite, tmp_path_factory):
    from promptstudy.clip.backbone import load_backbone
    from promptstudy.features import extract
    params = load_params(tiny_suite / "params.yaml")
    backbone = load_backbone(params.backbone.name, root=params.root)
    cache = tmp_path_factory.mktemp("cache")
    extract(params, "shapes", backbone, cache)
    return FeaturePack.load(cache / "shapes.safetensors")


def test_overview_has_a_line_per_dataset_and_one_for_what_to_do(suite, monkeypatch):
    for name in ("oxford_pets", "dtd"):
        build(suite, name, monkeypatch)
    findings = [diagnose(suite, name) for name in LAYOUTS]
    header, *lines = overview(findings).splitlines()
    assert header.split() == ["dataset", "state", "found"]
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(LAYOUTS)
    assert sum("->" in line for line in lines) == sum(len(f.todo) for f in findings)


def test_fifteen_datasets_in_seconds(suite, monkeypatch):
    for name in LAYOUTS:
        build(suite, name, monkeypatch)
    start = time.monotonic()
    assert {diagnose(suite, name).state for name in LAYOUTS} == {"present"}
    assert time.monotonic() - start < 5


# the commands


@pytest.fixture
def command(own_suite, monkeypatch, capsys):
    """Run a command on the own suite, whose datasets are two of CoOp's; return what it says."""
    (own_suite / "data_root").mkdir()
    text = (own_suite / "params.yaml").read_text()
    before, _, after = text.partition("datasets:\n")
    after = after[after.index("features:"):].replace("ablation_datasets: [shapes]", "")
    (own_suite / "params.yaml").write_text(
        before.replace("data_root: images", "data_root: data_root") +
        "datasets: {dtd: {layout: dtd}, imagenet: {layout: imagenet}}\n"
        "transfer: {source: imagenet, shots: 2, "
        "domain: {imagenet_a: {layout: imagenet_a}}}\n" + after)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["promptstudy", "--params",
                                          str(own_suite / "params.yaml"), *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr()

    run.root = own_suite / "data_root"
    return run


def test_doctor_fails_where_something_is_missing(command):
    code, said = command("doctor")
    assert code == "error: 3 of 3 datasets cannot be used"
    assert [line.split()[:2] for line in said.out.splitlines() if "->" not in line] == [
        ["dataset", "state"], ["dtd", "missing"], ["imagenet", "missing"],
        ["imagenet_a", "missing"]]


def test_doctor_of_one_dataset_and_of_none(command, monkeypatch):
    miniature.build(command.root, "imagenet_a")
    monkeypatch.setitem(LAYOUTS, "imagenet_a", LAYOUTS["imagenet_a"]._replace(sizes=(2, 0, 0, 20)))
    code, said = command("doctor", "imagenet_a")
    assert code == 0 and "2 classes, 0 / 0 / 20 images" in said.out and "dtd" not in said.out
    code, _ = command("doctor", "imagenet_b")
    assert code == "error: dataset 'imagenet_b' is not in params.yaml; did you mean 'imagenet_a'?"


def test_fetch_says_what_failed_and_goes_on(command, monkeypatch):
    from file_server import FileServer
    archive = shutil.make_archive(command.root / "made", "tar",
                                  miniature.build(command.root / "made", "imagenet_a"))
    content = open(archive, "rb").read()
    with FileServer({"/imagenet-a.tar": content}) as server:
        for name in ("dtd", "imagenet_a"):
            monkeypatch.setitem(PIECES, name, [
                piece._replace(url=f"{server.url}/{piece.file}",
                               digest=f"md5:{hashlib.md5(content).hexdigest()}")
                if piece.is_archive else piece._replace(by_hand=True) for piece in PIECES[name]])
        code, said = command("fetch")
    assert "dtd: " in said.err and "answers 404" in said.err
    assert os.path.isdir(command.root / "imagenet-adversarial" / "imagenet-a" / "n01443537")
    assert "dtd         missing" in said.out and str(code).startswith("error: ")


def test_help_lists_both(command):
    code, said = command("--help")
    text = " ".join(said.out.split())
    assert code == 0 and "present, missing or broken" in text and "openly available" in text
