"""Downloads that survive interruptions, and archives unpacked into CoOp's folder layout.

A download goes to `.fetch/` in the dataset's folder. It resumes where it stopped, is checked
against its published checksum, and only then unpacked, next to it, and moved into place. Existing
files are left alone.
"""

import hashlib
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..errors import FetchError
from .layouts import LAYOUTS
from .sources import Piece, absent

ATTEMPTS = 6  # in a row without a new byte
PAUSE = 1.0  # seconds after the first failure, doubled after each further one
SPEED = 10e6  # bytes per second, for the estimated duration
MARGIN = 2**20  # bytes by which a download may exceed its known size
LITTLE = 100 * 2**20  # bytes that a download of unknown size may have: those are all small
RATIO = 20  # an archive may unpack to this many times its own size, plus LITTLE
PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch(root: Path, name: str) -> list[Piece]:
    """Download what layout `name` lacks below `root`; return the `Piece`s to download by hand.

    Raises `FetchError` for the first piece that fails; what was downloaded until then is kept for
    the next call.
    """
    work = root / LAYOUTS[name].folder / ".fetch"
    while piece := next((piece for piece in absent(root, name) if not piece.by_hand), None):
        work.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(work / "lock", timeout=0):
                _get(piece, work)
        except Timeout:
            raise FetchError(f"another fetch is running in {work}; wait for it to end") from None
        shutil.rmtree(work)
    return absent(root, name)


def download(url: str, path: Path, digest: str, space: int = 0, size: int = 0) -> None:
    """Download `url` to `path`, resuming what an interrupted call left at `path.part`.

    Broken connections are retried as long as each brings new bytes. `space` is the least number of
    bytes there must be room for, `size` the expected number (0: few). Raises `FetchError` for an
    address that answers with an error or sends more than that, a full disk, or a `digest` that does
    not match: the download is then discarded (and, if it resumed an older one, tried once more).
    """
    part, most = path.with_name(f"{path.name}.part"), size + MARGIN if size else LITTLE
    if part.is_file() and _size(part) > most:
        part.unlink()  # it belongs to another file
    older = part.exists()
    _receive_all(url, part, space, most)
    found = digest_of(part, digest)
    if found == digest:
        os.replace(part, path)
        return
    with open(part, "rb") as file:
        page = file.read(1) == b"<"
    part.unlink()
    if older:
        download(url, path, digest, space, size)
        return
    raise FetchError(f"{url} gives {'a web page' if page else 'something else'} instead of the "
                     f"published file: its checksum is {found}, not {digest}; get it by hand")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into `folder`, which must not exist yet.

    Raises `FetchError` for an archive that is damaged or encrypted, would write outside the folder,
    would write more than an archive of its size can hold or the disk has room for, or holds
    anything but files and folders.
    """
    def check(name):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise FetchError(f"{archive} would write outside its folder ({name!r}); do not use it")

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    check(name)
                # zipfile never writes more of a member than its size here
                _check_unpacked(archive, sum(member.file_size for member in file.infolist()))
                file.extractall(folder)
            return
        with tarfile.open(archive) as tar:
            # Python's own guard of the same kind, from 3.11.4 on
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            unpacked = 0
            for member in tar:  # one by one: a large archive is read once
                check(member.name)
                if not (member.isreg() or member.isdir()):
                    raise FetchError(f"{archive} cannot be unpacked: {member.name!r} is neither a "
                                     "file nor a folder")
                unpacked += member.size
                _check_unpacked(archive, unpacked, member.size)
                tar.extract(member, folder, set_attrs=False)
    except NotImplementedError as error:
        raise FetchError(f"{archive} cannot be unpacked: {error}; unpack it with another program "
                         "and put its folders into place") from None
    except RuntimeError:  # zipfile's way of asking for a password
        raise FetchError(f"{archive} cannot be unpacked: it is encrypted, which the published one "
                         "is not; get it by hand") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError,
            OSError) as error:
        raise FetchError(f"{archive} cannot be unpacked: {error}") from None


def digest_of(path: Path, digest: str) -> str:
    """Return a file's digest of the same kind as `digest`, e.g. `md5:...`."""
    kind = digest.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _get(piece, work):
    """Download a piece, check it, unpack it and move it into the dataset's folder."""
    folder, path, unpacked = work.parent, work / piece.file, work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    if not (path.exists() and digest_of(path, piece.digest) == piece.digest):
        print(f"{folder / piece.makes}: {piece.url}{_about(piece.size)}", flush=True)
        download(piece.url, path, piece.digest, piece.size * (1 + piece.is_archive),
                 piece.size)
    if not piece.is_archive:
        os.replace(path, folder / piece.makes)
        return
    print(f"unpacking {path.name}", flush=True)
    unpack(path, unpacked)
    if piece.inner:
        unpack(unpacked / piece.inner, unpacked / ".inner")
        unpacked /= ".inner"
    source = unpacked / piece.inside
    if not (source / piece.makes).exists():
        raise FetchError(f"{path} has no {piece.makes} where expected; unpack it by hand into "
                         f"{folder}")
    # `makes`, which identifies the piece, is moved last, so that an interrupted move is noticed
    for child in sorted(source.iterdir(), key=lambda child: child.name == piece.makes):
        if not (folder / child.name).exists():
            os.replace(child, folder / child.name)


def _check_unpacked(archive, unpacked, more=None):
    """Refuse an archive that unpacks to `unpacked` bytes so far, `more` of them next."""
    most = RATIO * archive.stat().st_size + LITTLE
    if unpacked > most:
        raise FetchError(f"{archive} would unpack to {unpacked / 1e9:.1f} GB, which is more than "
                         f"an archive of its size holds ({most / 1e9:.1f} GB); do not use it")
    _check_space(archive, unpacked if more is None else more)


def _receive_all(url, part, space, most):
    failures = 0
    while True:
        before = _size(part)
        try:
            return _receive(url, part, space, most)
        except PASSING as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures == ATTEMPTS:
                raise FetchError(f"{url} cannot be downloaded: {error}; run this again to go on "
                                 f"from {_size(part):,} bytes, or get it by hand") from None
            time.sleep(PAUSE * 2 ** failures)
        except OSError as error:
            raise FetchError(f"{url} cannot be downloaded to {part}: {error}") from None


def _receive(url, part, space, most):
    """Append the rest of `url` to `part`, or start again if the server cannot resume.

    Takes at most `most` bytes, whether or not the server says how many it will send.
    """
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=60) as response:
        if have and response.status_code == 416:
            return  # nothing is left; the checksum will tell whether it is complete
        if response.status_code in (429, 500, 502, 503, 504):
            raise requests.ConnectionError(f"the server answers {response.status_code}")
        if not response.ok:
            raise FetchError(f"{url} answers {response.status_code} {response.reason}; it may have "
                             "moved: get it by hand")
        start = have if response.status_code == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise requests.ConnectionError("the server sends a range that was not requested")
        length = int(response.headers.get("Content-Length", 0))
        if start + length > most:
            raise _too_much(url, part, most)
        _check_space(part, max(start + length, space) - start)
        with (open(part, "ab" if start else "wb") as file,
              tqdm(desc=part.stem, total=start + length or None, initial=start, unit="B",
                   unit_scale=True, disable=None) as progress):
            for chunk in response.iter_content(1 << 16):  # a torn chunk is lost
                if file.tell() + len(chunk) > most:
                    raise _too_much(url, part, most)
                file.write(chunk)
                progress.update(len(chunk))
    if _size(part) < start + length:
        raise requests.ConnectionError("the connection was cut")


def _too_much(url, part, most):
    """Discard the download, and return the error."""
    part.unlink(missing_ok=True)
    return FetchError(f"{url} sends more than the {most / 1e6:,.0f} MB expected at most; "
                      "it may have moved: get it by hand")


def _check_space(path, needed):
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FetchError(f"{path.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are "
                         "needed to download and unpack; make room and run this again")


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _about(size):
    if not size:
        return ""
    return f" ({size / 1e9:.2f} GB, {size / SPEED / 60:.0f} minutes at 10 MB/s)"
