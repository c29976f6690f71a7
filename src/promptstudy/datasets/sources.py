"""Where CoOp's fifteen datasets come from: addresses, checksums, and the contents of archives.

Addresses and MD5 sums of archives are torchvision's (`torchvision.datasets`) if it has the
dataset; the others, and all SHA-256 sums of archives, are from TensorFlow Datasets'
`checksums.tsv`. Addresses on Google Drive are from CoOp's `DATASETS.md`; the SHA-256 sums of its
split files were computed from copies of them.
"""

from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from .layouts import LAYOUTS


class Piece(NamedTuple):
    """A part of a dataset that comes from one address.

    `makes` is the file or folder that it adds to the dataset's folder. The contents of an archive's
    folder `inside` go to the dataset's folder; `inner` is an archive in the archive. A piece
    `by_hand` is downloaded by hand: it has no open address or no known checksum. `raw` annotations
    are not needed if CoOp's split file is present.
    """

    makes: str
    url: str
    digest: str | None = None  # "md5:..." or "sha256:..." of the download
    size: int = 0  # bytes of the download; 0: few
    inner: str | None = None
    inside: str = "."
    by_hand: bool = False
    raw: bool = False

    @property
    def file(self) -> str:
        """Name of the downloaded file."""
        name = PurePosixPath(urlsplit(self.url).path).name
        return name if name.endswith((".zip", ".tar", ".tgz", ".tar.gz")) else \
            PurePosixPath(self.makes).name

    @property
    def is_archive(self) -> bool:
        """Does it have to be unpacked?"""
        return self.file != PurePosixPath(self.makes).name


def _by_hand(makes, url, digest=None, raw=False):
    return Piece(makes, url, digest, by_hand=True, raw=raw)


def _drive(makes, identity, sha256=None):
    """A small file on Google Drive; without a known checksum it is left to the user."""
    if sha256 is None:
        return _by_hand(makes, f"https://drive.google.com/file/d/{identity}/view")
    return Piece(makes, f"https://drive.google.com/uc?export=download&id={identity}",
                 f"sha256:{sha256}")


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_IMAGENET = "https://image-net.org/download-images.php"
_CARS = "https://ai.stanford.edu/~jkrause/cars/car_dataset.html (closed; look for a mirror)"
_CLASS_NAMES = _drive("classnames.txt", "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF")

PIECES = {
    "imagenet": [
        _CLASS_NAMES,
        _by_hand("images/train", f"{_IMAGENET} (ILSVRC2012_img_train.tar)"),
        _by_hand("images/val", f"{_IMAGENET} (ILSVRC2012_img_val.tar)")],
    "caltech101": [
        _drive("split_zhou_Caltech101.json", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
               "52ce83205ff8ff8a1a18119aad6376120ae35c36e783a984bc560cbf10e73fa5"),
        Piece("101_ObjectCategories",
              "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
              "md5:3138e1922a9193bfa496528edbbc45d0", 137_414_764,
              inner="caltech-101/101_ObjectCategories.tar.gz")],
    "oxford_pets": [
        _drive("split_zhou_OxfordPets.json", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
               "d7f3ffe65b3919f95132e51422894ae18686b83c331fd8c0adcdc3dc2de6301e"),
        Piece("annotations", f"{_VGG}/pets/data/annotations.tar.gz",
              "md5:95a8c909bbe2e81eed6a22bccdf3f68f", 19_173_078, raw=True),
        Piece("images", f"{_VGG}/pets/data/images.tar.gz",
              "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c", 791_918_971)],
    "stanford_cars": [
        _drive("split_zhou_StanfordCars.json", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
               "40acee7aa65c8e4727a32d90e884b7c3f8960b523422317e163f7af65432959d"),
        _by_hand("devkit", _CARS, raw=True),
        _by_hand("cars_test_annos_withlabels.mat", _CARS,
                 "sha256:790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                 raw=True),
        _by_hand("cars_train", _CARS), _by_hand("cars_test", _CARS)],
    "oxford_flowers": [
        _drive("split_zhou_OxfordFlowers.json", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
               "2f50c42fc1a17ca13c271cb4269b1347bdb43d2be672e34f74a4e4cbfbcca794"),
        Piece("imagelabels.mat", f"{_VGG}/flowers/102/imagelabels.mat",
              "md5:e0620be6f572b9609742df49c70aed4d", raw=True),
        Piece("jpg", f"{_VGG}/flowers/102/102flowers.tgz",
              "md5:52808999861908f626f3c1f4e79d11fa", 344_862_509)],
    "food101": [
        _drive("split_zhou_Food101.json", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
        Piece("images", "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
              "md5:85eeb15f3717b99a5da872d97d918f87", 4_996_278_331, inside="food-101")],
    "fgvc_aircraft": [
        Piece("images", f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
              "sha256:d5f68b1b81d6d7831eb9d5c5517074176b5dfbce6bcb43dc14ed1c66a87b8d75",
              2_770_575_360, inside="fgvc-aircraft-2013b/data")],
    "sun397": [
        _drive("split_zhou_SUN397.json", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
        Piece("Training_01.txt",
              "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
              "sha256:e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
              18_293_705, raw=True),
        Piece("SUN397", "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
              "md5:8ca2778205c41d23104230ba66911c7a", 39_077_296_924)],
    "dtd": [
        _drive("split_zhou_DescribableTextures.json", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
               "f26ebeccd2b58e68d70f07a0dc39fe49bf7b69024bac34396b954dfd87969c38"),
        Piece("images", f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz",
              "md5:fff73e5086ae6bdbea199a49dfb8a4c1", 625_239_812, inside="dtd")],
    "eurosat": [
        _drive("split_zhou_EuroSAT.json", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
               "541503a77d0b26b735d85ec7a3e672804fe0aa466c2e5f07da772cc6c0af8ad2"),
        Piece("2750", "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                      "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
              "md5:c8fa014336c82ac7804f0398fcb19387", 94_280_567)],
    "ucf101": [
        _drive("split_zhou_UCF101.json", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
               "d78cb834f7c5792ceaff2c5ee2d7c76a9e4086e48a3a6b01232989d29cbefdd8"),
        Piece("ucfTrainTestlist",
              "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
              "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27", raw=True),
        _drive("UCF-101-midframes", "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O")],
    "imagenetv2": [
        _CLASS_NAMES,
        Piece("imagenetv2-matched-frequency-format-val",
              "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
              "imagenetv2-matched-frequency.tar.gz",
              "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
              1_264_079_360)],
    "imagenet_sketch": [
        _CLASS_NAMES,
        _by_hand("images", "https://github.com/HaohanWang/ImageNet-Sketch")],
    "imagenet_a": [
        _CLASS_NAMES,
        Piece("imagenet-a", "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
              "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
              687_552_512)],
    "imagenet_r": [
        _CLASS_NAMES,
        Piece("imagenet-r", "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
              "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
              2_191_079_936)],
}


def absent(root: Path, name: str) -> list[Piece]:
    """Return the `Piece`s of layout `name` that are missing below `root` and needed.

    Lists come from CoOp's split file or from raw annotations, so one of them is enough if the
    latter give the same lists.
    """
    layout, pieces = LAYOUTS[name], PIECES[name]
    folder = root / layout.folder

    def is_there(piece):
        if piece == _CLASS_NAMES and (root / "imagenet" / piece.makes).is_file():
            return True
        return (folder / piece.makes).exists()

    raw = [piece for piece in pieces if piece.raw]
    replaced = {layout.split} if raw and all(map(is_there, raw)) else set()
    if layout.split and (folder / layout.split).is_file():
        replaced = {piece.makes for piece in raw}
    return [piece for piece in pieces if not is_there(piece) and piece.makes not in replaced]
