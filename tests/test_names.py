"""What names, templates and encodings in params.yaml may be."""

import pytest
import yaml
from conftest import PARAMS

from promptstudy.errors import ParamsError
from promptstudy.params import load_params


@pytest.fixture
def refused(tmp_path):
    """A function that returns the error of loading a params.yaml with one value changed."""
    def load(key, value):
        values = yaml.safe_load(PARAMS)
        *blocks, last = key.split(".")
        block = values
        for name in blocks:
            block = block[name]
        block[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(ParamsError) as caught:
            load_params(tmp_path / "params.yaml")
        return str(caught.value)

    return load


# names and templates


@pytest.mark.parametrize("block", ["datasets", "captioned", "transfer.domain"])
@pytest.mark.parametrize("name, better", [
    ("my flowers", "my_flowers"), ("imagenet.v2", "imagenet_v2"), ("../../x", "x"),
    ("x;touch y", "x_touch_y"), ("x $(touch y)", "x_touch_y"), ("l'oreal", "l_oreal"),
    ("-x", "x"), ("café", "cafe"), ("${suite}", "suite"), ("x\n", "x"), ("", "d"), ("花", "d")])
def test_names_that_a_shell_or_a_file_system_may_take_for_more_are_refused(refused, block, name,
                                                                            better):
    value = {"images": "a", "captions": "b"} if block == "captioned" else {"images": "a"}
    error = refused(block, {**yaml.safe_load(PARAMS).get(block, {}), name: value})
    assert f"{block}: the name {name!r} cannot be used: names become part of file names" in error
    assert "they may hold only the letters A to Z, digits, _ and -, and must not begin with -; " \
        f"call it {better!r}" in error


@pytest.mark.parametrize("name, better", [
    ("101", "d101"), ("1e5", "d1e5"), ("1_000", "d1_000"), ("on", "don"), ("NA", "dNA"),
    ("nan", "dnan"), ("null", "dnull")])
def test_names_that_are_no_text_in_yaml_or_a_table_are_refused(refused, name, better):
    error = refused("datasets", {name: {"images": "a"}})
    assert f"datasets: the name {name!r} is not always read as text, by YAML" in error
    assert f"call it {better!r}" in error


def test_a_number_as_a_name_is_refused(tmp_path):
    """Without quotes, too, where it is no text for YAML."""
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("  figures:", "  101:").replace("  pairs:", "  on:"))
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert ("datasets: YAML reads the name 101 as a number; a name needs a letter, e.g. 'd101' "
            "(quotes are not enough)") in str(caught.value)
    assert "captioned: YAML reads one of the names as True and not as text" in str(caught.value)


def test_a_name_that_is_too_long_for_a_file_is_refused(refused):
    assert "has 300 letters, at most 100 are" in refused("datasets", {"x" * 300: {"images": "a"}})


@pytest.mark.parametrize("block, other", [("datasets", "Shapes"), ("transfer.domain", "Figures"),
                                          ("captioned", "SHAPES")])
def test_names_that_differ_in_case_alone_are_refused(refused, block, other):
    value = {"images": "a", "captions": "b"} if block == "captioned" else {"images": "a"}
    error = refused(f"{block}.{other}", value)
    both = {f"datasets.{other.lower()}", f"{block}.{other}"}
    line = next(line for line in error.splitlines() if "differ only in upper and lower" in line)
    assert set(line.partition(":")[0].strip().split(" and ")) == both


@pytest.mark.parametrize("template, why", [
    ("a { {}", ": it has an unpaired brace; write {{ or }} for a brace in the prompt"),
    ("a } {}", ": it has an unpaired brace"),
    ("{} or {}", ""), ("a {{}}", ""), ("{name}", ": {name} is not filled; write {}"),
    ("{} {0}", ": {0} is not filled; write {}"), ("{!r}", ""), ("{:>9}", "")])
def test_template_that_cannot_be_filled(refused, template, why):
    error = refused("datasets.shapes.template", template)
    assert f"datasets.shapes.template: needs {{}} once (found {template!r}){why}" in error


def test_template_with_braces_that_are_meant(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS.replace("a drawing of {}.", "{{a}} of {}."))
    assert load_params(tmp_path / "params.yaml").template_of("shapes").format("x") == "{a} of x."


# encodings


@pytest.mark.parametrize("encode", [
    lambda text: text.encode("utf-8-sig"), lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r\n").encode("utf-8-sig")], ids=["mark", "CR LF", "both"])
def test_files_as_editors_on_windows_write_them(tmp_path, encode):
    (tmp_path / "params.yaml").write_bytes(encode(PARAMS))
    assert load_params(tmp_path / "params.yaml").suite == "tiny"


@pytest.mark.parametrize("content, why", [
    (PARAMS.encode("utf-16"), "it is UTF-16"), (PARAMS.encode("utf-32"), "it is UTF-32"),
    (PARAMS.encode("utf-16-le"), "it looks like UTF-16 without a byte-order mark"),
    (PARAMS.replace("tiny", "Größe").encode("latin-1"), "'utf-8' codec can't decode byte 0xf6")])
def test_another_encoding_is_named(tmp_path, content, why):
    """DVC can read no other either."""
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load_params(tmp_path / "params.yaml")
    assert f"params.yaml is not text in UTF-8 ({why}" in str(caught.value)
    assert str(caught.value).endswith("; save it as UTF-8")


def test_a_folder_and_endless_brackets_are_refused(tmp_path):
    with pytest.raises(ParamsError, match="is not a file; give the path of a file"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text("[" * 100_000)
    with pytest.raises(ParamsError, match="is not valid YAML: its brackets are nested too deeply"):
        load_params(tmp_path / "params.yaml")
