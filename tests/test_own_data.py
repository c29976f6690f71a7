"""Datasets as people have them: litter, spellings, encodings, and what leads out of the folder."""

import os
import shutil
import time

import pytest
from conftest import CLASSES, draw_pictures
from PIL import Image
from test_datasets import check, edit_split, load, load_own_folder

from promptstudy.datasets.folders import IMG_EXTENSIONS
from promptstudy.datasets.images import check_images
from promptstudy.datasets.items import SPLITS
from promptstudy.errors import DatasetError

# folders


def test_files_that_are_not_images_are_mentioned_once(own_suite):
    folder = own_suite / "images" / "mine"
    draw_pictures(folder, CLASSES[:2], count=4)
    for name in CLASSES[:2]:
        (folder / name / "Thumbs.db").write_text("mine")
    (folder / "red disc" / ".DS_Store").write_text("mine")
    with pytest.warns(UserWarning, match="entries of its class folders") as caught:
        assert len(load_own_folder(own_suite).train) == 4
    assert len(caught) == 1
    assert "mine: 3 entries of its class folders are left out, as they are not image files: " \
        "'Thumbs.db' (2 times), '.DS_Store' (images are" in str(caught[0].message)


def test_pipes_and_folders_called_like_images_are_left_out(own_suite):
    folder = own_suite / "images" / "mine"
    draw_pictures(folder, CLASSES[:2], count=4)
    os.mkfifo(folder / "red disc" / "pipe.jpg")
    (folder / "red disc" / "more.png").mkdir()
    (folder / "red disc" / "linked.png").symlink_to("000.png")
    with pytest.warns(UserWarning, match="2 entries .* 'more.png', 'pipe.jpg'"):
        dataset = load_own_folder(own_suite)
    paths = [item.path for split in SPLITS for item in getattr(dataset, split)]
    assert "red disc/linked.png" in paths and len(paths) == 9


def test_a_link_that_leads_nowhere_is_missed(own_suite):
    folder = own_suite / "images" / "mine"
    draw_pictures(folder, CLASSES[:2], count=4)
    (folder / "red disc" / "004.png").symlink_to("gone.png")
    with pytest.raises(DatasetError, match="red disc/004.png: the file is missing"):
        check_images(load_own_folder(own_suite), folder)


@pytest.mark.parametrize("litter", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git",
                                    "System Volume Information"])
def test_folders_that_archives_and_systems_leave_are_no_classes(own_suite, litter):
    folder = own_suite / "images" / "mine"
    draw_pictures(folder, [*CLASSES[:2], "plain"], count=4)
    (folder / "plain").rename(folder / litter)
    with pytest.warns(UserWarning, match=f"mine: left out, as they are not classes: '{litter}'"):
        dataset = load_own_folder(own_suite)
    assert dataset.class_names == sorted(CLASSES[:2])


@pytest.mark.parametrize("names", [
    ("training", "testing"), ("Train", "Valid", "Test"), ("TRAIN", "validation", "test")])
def test_split_folders_in_the_usual_spellings(own_suite, names):
    for name in names:
        draw_pictures(own_suite / "images" / "mine" / name, CLASSES[:2], count=2)
    dataset = load_own_folder(own_suite)
    assert dataset.class_names == sorted(CLASSES[:2])
    assert [len(getattr(dataset, split)) for split in SPLITS] == [4, 4 * (len(names) == 3), 4]
    assert dataset.test[0].path == f"{names[-1]}/green disc/000.png"


@pytest.mark.parametrize("names", [
    ("train", "test", "extra"), ("train", "val"), ("train", "valid", "validation", "test"),
    ("training", "plain")])
def test_a_mix_of_splits_and_other_folders_is_refused(own_suite, names):
    for name in names:
        draw_pictures(own_suite / "images" / "mine" / name, CLASSES[:2], count=2)
    with pytest.raises(DatasetError) as caught:
        load_own_folder(own_suite)
    assert "mine: are " in str(caught.value) and "splits or classes? There are folders in" \
        in str(caught.value)
    assert ("train: train or training; val: val or valid or validation; test: test or testing"
            in str(caught.value))


def test_names_and_endings_are_torchvisions():
    from torchvision.datasets.folder import IMG_EXTENSIONS as THEIRS
    assert IMG_EXTENSIONS == THEIRS


# split files


OUTSIDE = {
    "../../../../outside.png": "leads out of the images folder; move the image into it",
    "red disc/../../outside.png": "leads out of the images folder",
    "..": "leads out of the images folder", "/etc/outside.png": "is absolute; paths are relative",
    "C:\\outside.png": "is absolute", "red disc/\0.png": "holds a NUL, which no path can have",
    "": "names no file", "\ud800.png": "is not text in UTF-8; rename it"}


@pytest.mark.parametrize("path, why", OUTSIDE.items())
def test_paths_that_lead_out_of_the_images_folder_are_refused(own_suite, path, why):
    edit_split(own_suite, lambda split: split["val"].append([path, 0, "red_disc"]))
    with pytest.raises(DatasetError) as caught:
        load(own_suite)
    assert f"in val, class 'red disc', the path {path!r} {why}" in str(caught.value)


def test_links_and_dots_below_the_images_folder_are_fine(own_suite):
    folder = own_suite / "images" / "figures" / "pictures"
    shutil.move(folder / "striped", own_suite / "elsewhere")
    (folder / "striped").symlink_to(own_suite / "elsewhere")
    edit_split(own_suite, lambda split: split["train"][0].__setitem__(
        0, "red disc/../red disc/000.png"))
    assert len(check(own_suite)) == 48


@pytest.mark.parametrize("label, message", [
    (10**9, "'hat' has the label 1000000000"), (-1, "'hat' has the label -1")])
def test_labels_out_of_all_bounds_are_refused_at_once(own_suite, label, message):
    edit_split(own_suite, lambda split: split["train"].append(["red disc/000.png", label, "hat"]))
    start = time.monotonic()
    with pytest.raises(DatasetError, match=message):
        load(own_suite)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("content, message", [
    (b"[" * 100_000, "is not valid JSON .its brackets are nested too deeply.; get the split file"),
    (b'{"train": [["a.png", 0, "a', "is not valid JSON .*; get the split file again"),
    ('{"train": "é"}'.encode("latin-1"), "is not text in UTF-8 .*; save it as UTF-8"),
    ('{"train": []}'.encode("utf-16-le"), "looks like UTF-16 without a byte-order mark")])
def test_split_file_that_cannot_be_read(own_suite, content, message):
    (own_suite / "images" / "figures" / "split_zhou_Figures.json").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load(own_suite)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_split_file_in_another_encoding(own_suite, encoding):
    path, before = own_suite / "images" / "figures" / "split_zhou_Figures.json", load(own_suite)
    path.write_bytes(path.read_text().replace(", ", ",\r\n").encode(encoding))
    assert load(own_suite) == before


@pytest.mark.parametrize("name", ["", " ", "_"])
def test_classes_without_a_name_are_refused(own_suite, name):
    edit_split(own_suite, lambda split: split["val"].append(["red disc/000.png", 0, name]))
    with pytest.raises(DatasetError, match="image 'red disc/000.png' has a class without a name"):
        load(own_suite)


# images


def test_a_pipe_in_a_split_file_is_not_waited_for(own_suite):
    path = own_suite / "images" / "figures" / "pictures" / "red disc" / "000.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="train, class 'red disc', .*000.png: it is not a file"):
        check(own_suite)


def test_images_of_another_format_than_their_names_are_mentioned_once(own_suite):
    folder = own_suite / "images" / "figures" / "pictures"
    for name, kind in (("red disc/000", "gif"), ("striped/001", "jpeg")):
        Image.open(folder / f"{name}.png").save(folder / f"{name}.{kind}")
        (folder / f"{name}.{kind}").rename(folder / f"{name}.png")
    with pytest.warns(UserWarning, match="figures: 2 images have another format") as caught:
        assert len(check(own_suite)) == 48
    assert len(caught) == 1 and "e.g. red disc/000.png is GIF" in str(caught[0].message)
