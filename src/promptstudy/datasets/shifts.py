"""Shifted versions of images, where none have been collected as they have for ImageNet.

Images are brought to one size first, so that a shift is as strong whatever the camera. What is left
to chance is drawn from a seed: the same image and seed give the same bytes.
"""

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

SIDE = 256  # pixels of the shorter side; models look at hardly more


def shifted(image, shift, seed):
    """Return a shifted version of an RGB image; `shift` is one of `SHIFTS`."""
    image = TF.resize(image, SIDE, InterpolationMode.BICUBIC)
    return SHIFTS[shift](image, np.random.default_rng(seed))


def sketch(image, rng):
    """Dark lines on white where the picture has edges, without colours and surfaces."""
    grey = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(1))
    edges = ImageOps.crop(grey.filter(ImageFilter.FIND_EDGES), border=1)  # there it finds none
    return ImageOps.invert(ImageOps.autocontrast(edges, cutoff=(0, 1))).convert("RGB")


def rendition(image, rng):
    """A print: even surfaces of few tones, in strong colours that are not the picture's own."""
    hue = rng.uniform(0.25, 0.5) * rng.choice([-1, 1])  # of a turn round the colour circle
    recoloured = TF.adjust_hue(TF.adjust_saturation(image, 2), hue)
    return ImageOps.posterize(recoloured.filter(ImageFilter.MedianFilter(5)), bits=2)


def blur_noise(image, rng):
    """A bad photograph: out of focus, and with a noise of a tenth of the range of values."""
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(2)), dtype=np.float64)
    noisy = blurred + rng.normal(0, 0.1 * 255, blurred.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def small(image, rng):
    """The picture at a third of its size, in the middle of an even ground of its mean colour."""
    ground = Image.new("RGB", image.size, tuple(np.asarray(image).mean((0, 1)).round().astype(int)))
    little = image.resize([-(-side // 3) for side in image.size], Image.Resampling.BICUBIC)
    place = [(whole - part) // 2 for whole, part in zip(image.size, little.size, strict=True)]
    ground.paste(little, place)
    return ground


SHIFTS = {"sketch": sketch, "rendition": rendition, "blur_noise": blur_noise, "small": small}
