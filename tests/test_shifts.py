"""Shifts of images: what each changes, what it leaves, and that nothing is left to chance."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import CLASSES, picture
from PIL import Image

from promptstudy.datasets.shifts import SHIFTS, SIDE, shifted
from promptstudy.params import TargetParams

DRAWN = {"rendition", "blur_noise"}  # where chance has a part


def drawing(name, seed=0):
    return Image.fromarray(picture(name, np.random.default_rng(seed)))


def values(image):
    return np.asarray(image).astype(float)


def test_every_shift_can_be_named_in_params():
    for shift in SHIFTS:
        assert TargetParams(shift=shift).shift == shift


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", CLASSES)
def test_the_same_image_and_seed_give_the_same_bytes_and_another_seed_what_is_drawn(shift, name):
    image = drawing(name)
    before = image.tobytes()
    once = shifted(image, shift, seed=3)
    assert once.mode == "RGB" and image.tobytes() == before
    assert shifted(image.copy(), shift, seed=3).tobytes() == once.tobytes()
    another = shifted(image, shift, seed=4).tobytes() != once.tobytes()
    assert another == (shift in DRAWN)


def test_another_process_gives_the_same_bytes():
    code = """
import hashlib, sys
from PIL import Image
from promptstudy.datasets.shifts import SHIFTS, shifted
image = Image.linear_gradient("L").convert("RGB")
print(hashlib.sha256(b"".join(shifted(image, s, 5).tobytes() for s in SHIFTS)).hexdigest())
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", CLASSES[:4])
def test_a_shift_changes_every_picture(shift, name):
    image = drawing(name)
    other = shifted(image, shift, seed=0).resize(image.size)
    assert abs(values(other) - values(image)).mean() > 5


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_is_as_strong_on_a_large_picture(shift):
    """A picture of eight times the size, without more detail, is shifted to hardly another one."""
    image = Image.new("RGB", (160, 120), (230, 200, 40))
    image.paste((40, 60, 160), (50, 30, 110, 90))
    large = image.resize([8 * side for side in image.size], Image.Resampling.BICUBIC)
    image, large = (values(shifted(picture, shift, seed=0)) for picture in (image, large))
    assert abs(image - large).mean() < 2


def test_a_sketch_has_lines_where_there_are_edges_and_no_colour():
    sketch = values(shifted(drawing("blue square"), "sketch", seed=0))
    assert (sketch == sketch[..., :1]).all()
    even = Image.new("RGB", (60, 40), (200, 30, 90))
    assert (values(shifted(even, "sketch", seed=0)) == 255).all()
    half = Image.new("RGB", (60, 40), "black")
    half.paste("white", (0, 0, 30, 40))
    half = values(shifted(half, "sketch", seed=0))[..., 0]
    middle = half.shape[1] // 2
    assert half[:, middle - 4:middle + 4].min(axis=1).max() < 40  # a line, all the way down
    assert half[:, :middle - 8].min() == half[:, middle + 8:].min() == 255


def test_a_rendition_has_few_tones_of_other_colours():
    red = Image.new("RGB", (60, 40), (220, 60, 60))
    for seed in range(20):
        rendition = values(shifted(red, "rendition", seed))
        assert set(np.unique(rendition)) <= {0, 64, 128, 192}
        assert rendition[..., 0].max() < rendition[..., 1:].max()  # no longer red
    grey = Image.linear_gradient("L").convert("RGB")
    grey = values(shifted(grey, "rendition", seed=0))
    assert (grey == grey[..., :1]).all() and len(np.unique(grey)) == 4


def test_noise_is_a_tenth_of_the_range_around_the_blurred_picture():
    even = Image.new("RGB", (60, 40), (128, 128, 128))
    noise = values(shifted(even, "blur_noise", seed=0)) - 128
    assert abs(noise.mean()) < 0.5 and noise.std() == pytest.approx(25.5, rel=0.02)
    edge = Image.new("RGB", (60, 40), (64, 64, 64))
    edge.paste((192, 192, 192), (0, 0, 30, 40))
    columns = values(shifted(edge, "blur_noise", seed=0)).mean(axis=(0, 2))
    step = abs(np.diff(columns)).max()
    assert 64 / SIDE < step < 64  # over several columns, and not at once


def test_a_small_picture_lies_in_the_middle_of_its_mean_colour():
    image = Image.new("RGB", (300, 300), "white")
    image.paste("black", (0, 0, 150, 300))
    found = values(shifted(image, "small", seed=0))
    assert found.shape == (SIDE, SIDE, 3)
    ground = found[:80].reshape(-1, 3)
    assert (ground == ground[0]).all() and abs(ground[0] - 127.5).max() <= 1
    middle = found[SIDE // 2, 85:171, 0]
    assert (middle[:40] == 0).all() and (middle[-40:] == 255).all()
