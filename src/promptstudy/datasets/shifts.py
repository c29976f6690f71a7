"""Synthetic shifts of images, where no shifted images were collected, as they were for ImageNet.

Images are resized to one size first, so that a shift is equally strong for every camera. Random
choices come from a seed: the same image and seed give the same bytes.
"""

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

SIDE = 256  # pixels of the shorter side; models hardly use more


def shifted(image, shift, seed):
    """Return a shifted version of an RGB image; `shift` is one of `SHIFTS`."""
    image = TF.resize(image, SIDE, InterpolationMode.BICUBIC)
    return SHIFTS[shift](image, np.random.default_rng(seed))


def sketch(image, rng):
    """Dark lines on white at the picture's edges, without colours and surfaces."""
    grey = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(1))
    edges = ImageOps.crop(grey.filter(ImageFilter.FIND_EDGES), border=1)  # it finds none there
    return ImageOps.invert(ImageOps.autocontrast(edges, cutoff=(0, 1))).convert("RGB")


def rendition(image, rng):
    """A print: flat areas of few tones, in strong colours that are not the picture's own."""
    hue = rng.uniform(0.25, 0.5) * rng.choice([-1, 1])  # in turns of the colour circle
    recoloured = TF.adjust_hue(TF.adjust_saturation(image, 2), hue)
    return ImageOps.posterize(recoloured.filter(ImageFilter.MedianFilter(5)), bits=2)


def blur_noise(image, rng):
    """A bad photograph: out of focus, with noise of a tenth of the value range."""
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(2)), dtype=np.float64)
    noisy = blurred + rng.normal(0, 0.1 * 255, blurred.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def small(image, rng):
    """The picture at a third of its size, centred on a plain background of its mean colour."""
    ground = Image.new("RGB", image.size, tuple(np.asarray(image).mean((0, 1)).round().astype(int)))
    little = image.resize([-(-side // 3) for side in image.size], Image.Resampling.BICUBIC)
    place = [(whole - part) // 2 for whole, part in zip(image.size, little.size, strict=True)]
    ground.paste(little, place)
    return ground


SHIFTS = {"sketch": sketch, "rendition": rendition, "blur_noise": blur_noise, "small": small}
