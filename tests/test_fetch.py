"""Downloads from a server that misbehaves, and archives that are unpacked into CoOp's layout."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

import miniature
import pytest
from file_server import FileServer
from filelock import FileLock
from make_golden import GOLDEN
from torchvision import datasets

from promptstudy.datasets import fetch as fetching
from promptstudy.datasets.fetch import download, fetch, unpack
from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.datasets.sources import PIECES, absent
from promptstudy.errors import FetchError

CONTENT = os.urandom(3_000_000)
CUT = 1 << 20  # bytes
Usage = namedtuple("Usage", "total used free")


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.001)


def get(server, target, content=CONTENT):
    download(f"{server.url}/data.tar", target, md5(content))


# downloads


def test_download_is_whole_and_leaves_nothing_else(tmp_path):
    with FileServer({"/data.tar": CONTENT}) as server:
        get(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["data.tar"]


@pytest.mark.parametrize("length", [True, False])
def test_cut_downloads_go_on_where_they_stopped(tmp_path, length):
    """Whether or not the server says how much it will send."""
    def script(number, path):
        return {"cut": CUT, "length": length} if number < 4 else None

    with FileServer({"/data.tar": CONTENT}, script) as server:
        if length:
            get(server, tmp_path / "data.tar")
            assert [wanted for _, wanted in server.requests] == [
                None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
            assert (tmp_path / "data.tar").read_bytes() == CONTENT
        else:  # nothing but the checksum can tell
            with pytest.raises(FetchError, match="gives something else"):
                get(server, tmp_path / "data.tar")


def test_an_interrupted_call_is_gone_on_with(tmp_path):
    (tmp_path / "data.tar.part").write_bytes(CONTENT[:1_234_567])
    with FileServer({"/data.tar": CONTENT}) as server:
        get(server, tmp_path / "data.tar")
        assert server.requests == [("/data.tar", "bytes=1234567-")]
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_finished_part_is_not_downloaded_again(tmp_path):
    (tmp_path / "data.tar.part").write_bytes(CONTENT)
    with FileServer({"/data.tar": CONTENT}) as server:
        get(server, tmp_path / "data.tar")
        assert len(server.requests) == 1
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [False, "wrong"])
def test_ranges_that_the_server_ignores_or_gets_wrong(tmp_path, ranges):
    (tmp_path / "data.tar.part").write_bytes(b"x" * 1000)
    with FileServer({"/data.tar": CONTENT}, lambda *_: {"ranges": ranges}) as server:
        get(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_part_of_another_version_is_thrown_away(tmp_path):
    (tmp_path / "data.tar.part").write_bytes(b"x" * 1_000_000)
    with FileServer({"/data.tar": CONTENT}) as server:
        get(server, tmp_path / "data.tar")
        assert [wanted for _, wanted in server.requests] == ["bytes=1000000-", None]
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("content, named", [(b"x" * 1000, "something else"),
                                            (b"<!DOCTYPE html>", "a web page")])
def test_wrong_checksum_is_refused(tmp_path, content, named):
    with FileServer({"/data.tar": content}) as server:
        with pytest.raises(FetchError, match=f"gives {named} instead of the published file: its "
                                             "checksum is md5:.*, not md5:.*by hand"):
            get(server, tmp_path / "data.tar")
        assert len(server.requests) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_address_that_is_gone(tmp_path, status):
    with FileServer({}, lambda *_: {"status": status}) as server:
        with pytest.raises(FetchError, match=f"data.tar answers {status} .* may have moved: get"):
            get(server, tmp_path / "data.tar")
        assert len(server.requests) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_out(tmp_path, status):
    def script(number, path):
        return {"status": status} if number < 3 else None

    with FileServer({"/data.tar": CONTENT}, script) as server:
        get(server, tmp_path / "data.tar")
        assert len(server.requests) == 3


def test_lasting_trouble_ends_and_keeps_what_came(tmp_path):
    def script(number, path):
        return {"cut": CUT} if number == 1 else {"status": 503}

    with FileServer({"/data.tar": CONTENT}, script) as server:
        with pytest.raises(FetchError, match="the server answers 503; run this again to go on from "
                                             f"{CUT:,} bytes, or get it by hand"):
            get(server, tmp_path / "data.tar")
        assert len(server.requests) == 1 + fetching.ATTEMPTS
    assert (tmp_path / "data.tar.part").read_bytes() == CONTENT[:CUT]


def test_a_server_that_never_sends_it_all_is_given_up(tmp_path):
    with FileServer({"/data.tar": CONTENT},
                    lambda *_: {"cut": CUT, "ranges": False}) as server:
        with pytest.raises(FetchError, match="cannot be downloaded"):
            get(server, tmp_path / "data.tar")
        assert len(server.requests) <= 1 + fetching.ATTEMPTS


def test_no_server(tmp_path):
    with FileServer({}) as server:
        pass
    with pytest.raises(FetchError, match="cannot be downloaded: .*; run this again to go on from"):
        get(server, tmp_path / "data.tar")


def test_disk_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: Usage(9e9, 9e9, 2e6))
    with FileServer({"/data.tar": CONTENT}) as server:
        with pytest.raises(FetchError, match="has 0.0 GB free, 0.0 GB are needed to download and"):
            get(server, tmp_path / "data.tar")
        with pytest.raises(FetchError, match="5.0 GB are needed"):
            download(f"{server.url}/data.tar", tmp_path / "data.tar", md5(CONTENT), 5e9)


def test_full_disk_ends_in_one_message(tmp_path):
    """A folder that cannot be written stands for a disk that fills up on the way."""
    (tmp_path / "data.tar.part").mkdir()
    with FileServer({"/data.tar": CONTENT}) as server:
        with pytest.raises(FetchError, match="cannot be downloaded to .*data.tar.part: "):
            get(server, tmp_path / "data.tar")


def test_a_killed_download_is_gone_on_with(tmp_path):
    """The process is killed while bytes come in; the next one asks for the rest alone."""
    def script(number, path):
        return {"cut": 2 * CUT} if number == 1 else {"delay": 30 * (number == 2)}

    with FileServer({"/data.tar": CONTENT}, script) as server:
        code = ("from pathlib import Path; from promptstudy.datasets.fetch import download; "
                f"download({server.url + '/data.tar'!r}, Path('data.tar'), {md5(CONTENT)!r})")
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
        deadline = time.monotonic() + 120
        while len(server.requests) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        get(server, tmp_path / "data.tar")
        assert server.requests[-1] == ("/data.tar", f"bytes={2 * CUT}-")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False])
def test_more_than_is_known_to_come_is_refused(tmp_path, monkeypatch, length):
    """Whether or not the server says how much it will send."""
    monkeypatch.setattr(fetching, "MARGIN", 1000)
    with FileServer({"/data.tar": CONTENT}, lambda *_: {"length": length}) as server:
        with pytest.raises(FetchError, match="data.tar sends more than the 2 MB expected "
                                             "at most; it may have moved: get it by hand"):
            download(f"{server.url}/data.tar", tmp_path / "data.tar", md5(CONTENT), 0, 2_000_000)
        assert os.listdir(tmp_path) == [] and len(server.requests) == 1
        (tmp_path / "data.tar.part").write_bytes(2 * CONTENT)  # of something else
        download(f"{server.url}/data.tar", tmp_path / "data.tar", md5(CONTENT), 0, 2_999_500)
        monkeypatch.setattr(fetching, "LITTLE", 2_000_000)  # of what has no known size
        with pytest.raises(FetchError, match="sends more than the 2 MB"):
            download(f"{server.url}/data.tar", tmp_path / "other.tar", md5(CONTENT))


# archives


def tar(path, members):
    """Write a tar archive of {name: bytes, or a TarInfo}."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("make, file", [(tar, "a.tar"), (tar, "a.tgz"), (zipped, "a.zip")])
def test_archives_are_unpacked(tmp_path, make, file):
    unpack(make(tmp_path / file, {"images/a.jpg": b"1", "b.txt": b"2"}), tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == b"1"
    assert (tmp_path / "out" / "b.txt").read_bytes() == b"2"


@pytest.mark.parametrize("make, members", [
    (tar, {"../evil": b"1"}), (tar, {"a/../../evil": b"1"}), (zipped, {"../evil": b"1"}),
    (zipped, {"a/../../evil": b"1"}), (tar, {"out": link("out", "../..")}),
    (tar, {"hard": link("hard", "../../evil", tarfile.LNKTYPE)}),
    (tar, {"device": link("device", "", tarfile.CHRTYPE)})],
    ids=["tar up", "tar down and up", "zip up", "zip down and up", "link", "hard link", "device"])
def test_archives_that_lead_out_of_their_folder_are_refused(tmp_path, make, members):
    folder = tmp_path / "deep" / "out"
    archive = make(tmp_path / f"a.{make.__name__}", {"good": b"1"} | members)
    with pytest.raises(FetchError, match=f"{archive} (would write outside|cannot be unpacked)"):
        unpack(archive, folder)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("file", ["a.zip", "a.tar.gz"])
def test_archives_that_unpack_to_far_more_than_archives_do_are_refused(tmp_path, file):
    """A thousand times a megabyte of zeros, in one file or in several."""
    zeros = bytes(2**20)
    if file == "a.zip":
        with zipfile.ZipFile(tmp_path / file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in range(4):
                with archive.open(f"{part}.bin", "w") as member:
                    for _ in range(60):
                        member.write(zeros)
    else:
        tar(tmp_path / file, {f"{part}.bin": 60 * zeros for part in range(4)})
    with pytest.raises(FetchError, match="would unpack to 0.. GB, which is more than an archive of "
                                         "its size holds .0.1 GB.; do not use it"):
        unpack(tmp_path / file, tmp_path / "out")
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.bin"))
    assert written <= (0 if file == "a.zip" else 2 * 60 * 2**20)


@pytest.mark.parametrize("make, file", [(zipped, "a.zip"), (tar, "a.tar")])
def test_archives_for_which_the_disk_has_no_room_are_refused(tmp_path, monkeypatch, make, file):
    archive = make(tmp_path / file, {"a": CONTENT})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: Usage(9e9, 9e9, 2e6))
    with pytest.raises(FetchError, match="has 0.0 GB free, .* make room and run this again"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("offsets, value, message", [
    ((6, 8), 1, "it is encrypted, which the published one is not; get it by hand"),
    ((8, 10), 97, "compression.* unpack it with another program")])
def test_zip_archives_that_are_encrypted_or_of_an_unknown_kind(tmp_path, offsets, value, message):
    """Set in the header of the file and in the directory of the archive."""
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"1"})
    content = bytearray(archive.read_bytes())
    content[offsets[0]] = content[content.index(b"PK\x01\x02") + offsets[1]] = value
    archive.write_bytes(content)
    with pytest.raises(FetchError, match=f"a.zip cannot be unpacked: .*{message}"):
        unpack(archive, tmp_path / "out")


def test_damage_inside_a_compressed_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", b"text " * 1000)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[31:40] = b"\xff" * 9
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(FetchError, match="a.zip cannot be unpacked: "):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [tar, zipped])
def test_absolute_paths_are_refused(tmp_path, make):
    target = tmp_path / "evil"
    with pytest.raises(FetchError, match="would write outside"):
        unpack(make(tmp_path / "archive", {str(target): b"1"}), tmp_path / "out")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"no archive", CONTENT[:500]])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(FetchError, match="a.tar cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("make, file", [(tar, "a.tar.gz"), (zipped, "a.zip")])
def test_torn_archive(tmp_path, make, file):
    archive = make(tmp_path / file, {"a": CONTENT})
    archive.write_bytes(archive.read_bytes()[:1_000_000])
    with pytest.raises(FetchError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


# whole datasets: miniature trees packed as the official archives are


def packed(folder, prefix=""):
    """The tree of a folder as archive members."""
    return {prefix + str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def archive_of(piece, folder, at):
    """What the address of a piece gives, for the miniature dataset in `folder`."""
    if not piece.is_archive:
        return (folder / piece.makes).read_bytes()
    make = zipped if piece.file.endswith(".zip") else tar
    prefix = "" if piece.inside == "." else f"{piece.inside}/"
    # an archive holds the piece, and what the folder beside it holds where it holds all of it
    whole = folder if piece.inside != "." or piece.makes.endswith(".txt") else None
    members = packed(whole, prefix) if whole else packed(folder / piece.makes, f"{piece.makes}/")
    if piece.inner:
        inner = tar(at / "inner.tar.gz", members)
        members = {piece.inner: inner.read_bytes(), "caltech-101/Annotations.tar": b"other"}
    return make(at / f"made-{piece.file}", members).read_bytes()


DIRECT = [name for name, pieces in PIECES.items()  # CoOp's split files are not in miniatures
          if any(not piece.by_hand and piece.makes != LAYOUTS[name].split for piece in pieces)]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """`start(names, script)` serves miniature datasets and points their pieces to the server."""
    made = tmp_path / "made"
    made.mkdir()

    def start(*names, script=lambda *_: None):
        files, pieces = {}, {}
        server = servers.enter_context(FileServer(files, script))
        for name in names:
            folder = miniature.build(made, name)
            pieces[name] = []
            for piece in PIECES[name]:
                if not piece.by_hand and (folder / piece.makes).exists():
                    content = archive_of(piece, folder, made)
                    files[f"/{name}/{piece.file}"] = content
                    piece = piece._replace(url=f"{server.url}/{name}/{piece.file}",
                                           digest=md5(content))
                elif not piece.by_hand:
                    piece = piece._replace(by_hand=True)
                pieces[name].append(piece)
            monkeypatch.setitem(PIECES, name, pieces[name])
        return server

    with ExitStack() as servers:
        yield start


@pytest.mark.parametrize("name", DIRECT)
def test_fetched_dataset_lies_as_coop_has_it(tmp_path, offline, name):
    offline(name)
    by_hand = fetch(tmp_path / "root", name)
    folder = LAYOUTS[name].folder
    got, built = (packed(tmp_path / root / folder) for root in ("root", "made"))
    unfetched = {path for path in built for piece in by_hand
                 if path == piece.makes or path.startswith(f"{piece.makes}/")}
    assert got == {path: content for path, content in built.items() if path not in unfetched}
    assert got and absent(tmp_path / "root", name) == by_hand
    assert all(piece.by_hand for piece in by_hand)


def test_fetch_is_done_once(tmp_path, offline):
    server = offline("oxford_pets")
    fetch(tmp_path, "oxford_pets")
    before = len(server.requests)
    fetch(tmp_path, "oxford_pets")
    assert len(server.requests) == before == 2


def test_annotations_are_not_fetched_beside_the_split_file(tmp_path, offline):
    server = offline("oxford_pets")
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets" / "split_zhou_OxfordPets.json").write_text("{}")
    fetch(tmp_path, "oxford_pets")
    assert [path for path, _ in server.requests] == ["/oxford_pets/images.tar.gz"]


def test_what_stands_there_already_is_left_alone(tmp_path, offline):
    offline("fgvc_aircraft")
    mine = tmp_path / "fgvc_aircraft" / "variants.txt"
    miniature.text(mine, ["mine"])
    fetch(tmp_path, "fgvc_aircraft")
    assert mine.read_text() == "mine\n" and (mine.parent / "images").is_dir()


def test_interrupted_unpacking_is_done_again(tmp_path, offline, monkeypatch):
    server, move = offline("dtd"), os.replace

    def interrupted(source, target):
        if Path(source).parent.name == "dtd":
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", interrupted)
        fetch(tmp_path, "dtd")
    assert not (tmp_path / "dtd" / "images").exists()
    fetch(tmp_path, "dtd")
    assert len(server.requests) == 1  # the archive was there already
    assert packed(tmp_path / "dtd") == packed(tmp_path / "made" / "dtd")


def test_archive_without_what_it_should_hold(tmp_path, offline, monkeypatch):
    server = offline("imagenet_a")
    content = tar(tmp_path / "other.tar", {"imagenet-b/1.jpg": b"1"}).read_bytes()
    server.files["/imagenet_a/imagenet-a.tar"] = content
    monkeypatch.setitem(PIECES, "imagenet_a", [
        piece if piece.by_hand else piece._replace(digest=md5(content))
        for piece in PIECES["imagenet_a"]])
    with pytest.raises(FetchError, match="imagenet-a.tar has no imagenet-a where expected"):
        fetch(tmp_path, "imagenet_a")


def test_two_fetches_at_once_are_refused(tmp_path, offline):
    offline("dtd")
    work = tmp_path / "dtd" / ".fetch"
    work.mkdir(parents=True)
    with FileLock(work / "lock"):
        with pytest.raises(FetchError, match="another fetch is running in .*; wait for it to end"):
            fetch(tmp_path, "dtd")


def test_work_folder_is_invisible_to_the_loader(tmp_path, offline):
    def script(number, path):
        return {"status": 404} if "2750" in path or "EuroSAT" in path else None

    offline("eurosat", script=script)
    with pytest.raises(FetchError, match="EuroSAT.zip answers 404"):
        fetch(tmp_path, "eurosat")
    assert os.listdir(tmp_path / "eurosat") == [".fetch"]


# the table of sources


def test_every_layout_says_where_it_comes_from():
    assert set(PIECES) == set(LAYOUTS)
    for name, pieces in PIECES.items():
        makes = [piece.makes for piece in pieces]
        assert len(set(makes)) == len(makes)
        assert LAYOUTS[name].split in [None, *makes]
        images = LAYOUTS[name].images
        assert images == "." or any(make.split("/")[0] == images for make in makes)
        for piece in pieces:
            kind, _, digest = (piece.digest or "md5:" + "0" * 32).partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[kind] and int(digest, 16) >= 0
            assert piece.by_hand or piece.digest, (name, piece.makes)


def test_torchvisions_addresses_and_checksums_are_the_ones_used():
    ours = {piece.url: piece.digest for pieces in PIECES.values() for piece in pieces}
    theirs = [(datasets.DTD._URL, datasets.DTD._MD5),
              (datasets.Food101._URL, datasets.Food101._MD5),
              (datasets.SUN397._DATASET_URL, datasets.SUN397._DATASET_MD5),
              *datasets.OxfordIIITPet._RESOURCES,
              *((datasets.Flowers102._download_url_prefix + file, digest)
                for file, digest in datasets.Flowers102._file_dict.values())]
    for url, digest in theirs:
        if not url.endswith("setid.mat"):  # of the official split, which CoOp does not use
            assert ours[url] == f"md5:{digest}"


def test_split_files_have_the_digests_of_the_golden_ones():
    golden = json.loads((GOLDEN / "splits.json").read_text())
    known = {piece.makes: piece.digest for pieces in PIECES.values() for piece in pieces}
    official = {file: f"sha256:{entry['file']}" for file, entry in golden.items() if file in known}
    assert len(official) == 7
    assert {file: known[file] for file in official} == official
