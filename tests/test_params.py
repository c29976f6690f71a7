"""`params.yaml`: what is wrong is named, with what would be right, before anything runs."""

import time
from pathlib import Path

import pytest
import yaml
from conftest import PARAMS

from promptstudy.errors import ParamsError
from promptstudy.params import load_params

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def faulty(tmp_path):
    """A function that writes a params.yaml with changes and returns the error of loading it."""
    def load(*changes):
        values = yaml.safe_load(PARAMS)
        for keys, value in changes:
            *blocks, last = keys.split(".")
            block = values
            for name in blocks:
                block = block[name]
            if value is None:
                del block[last]
            else:
                block[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        start = time.monotonic()
        with pytest.raises(ParamsError) as caught:
            load_params(tmp_path / "params.yaml")
        assert time.monotonic() - start < 5
        return str(caught.value)

    return load


@pytest.mark.parametrize("key, value, message", [
    ("seed", [1], "seed: unknown key; did you mean 'seeds'?"),
    ("features.veiws", 2, "features.veiws: unknown key; did you mean 'views'?"),
    ("datasets.shapes.tempalte", "{}", "datasets.shapes.tempalte: unknown key; did you mean "
                                       "'template'?"),
    ("coop.schedule.momentun", 0.9, "coop.schedule.momentun: unknown key; did you mean 'momentum'"),
    ("dualpt.few_shot.lambda_txt", 1, "dualpt.few_shot.lambda_txt: unknown key; did you mean "
                                      "'lambda_text'?"),
    ("dualpt.studies.neither.alpa", 1, "dualpt.studies.neither.alpa: unknown key; did you mean "
                                       "'alpha'?"),
    ("dualview.studies.CE only.lambda_m", 0, "dualview.studies.CE only.lambda_m: unknown key; did "
                                             "you mean 'lambda_mi'?"),
    ("kgcoop.few_shot", {"wieght": 1}, "kgcoop.few_shot.wieght: unknown key; did you mean "
                                       "'weight'?"),
    ("coop.studies", [{"nctx": 4}], "coop.studies.0.nctx: unknown key; did you mean 'n_ctx'?"),
    ("aape.few_shot.lambda", 1, "aape.few_shot.lambda: unknown key; did you mean "
                                "'lambda_distill'?"),
    ("captioned.pairs.caption", "x", "captioned.pairs.caption: unknown key; did you mean "
                                     "'captions'?"),
    ("transfer.sources", "shapes", "transfer.sources: unknown key; did you mean 'source'?"),
    ("transfer.domain.lines.shfit", 1, "transfer.domain.lines.shfit: unknown key; did you mean "
                                       "'shift'?"),
    ("llm.n_reply", 2, "llm.n_reply: unknown key; did you mean 'n_replies'?"),
    ("llm.price", {"prompts": 1}, "llm.price.prompts: unknown key; did you mean 'prompt'?"),
    ("backbone.weights", "x", "backbone.weights: unknown key; did you mean 'pretrained'?"),
])
def test_unknown_key_is_named_with_the_nearest(faulty, key, value, message):
    error = faulty((key, value))
    assert error.startswith("/") and "params.yaml cannot be used:" in error
    assert message in error


@pytest.mark.parametrize("key, value, message", [
    ("features.batch_size", 0, "features.batch_size: input should be greater than or equal to 1 "
                               "(found 0)"),
    ("features.views", -1, "features.views: input should be greater than or equal to 0 (found -1)"),
    ("features.local_grid", "three", "features.local_grid: input should be a valid integer"),
    ("coop.schedule.lr", -0.1, "coop.schedule.lr: input should be greater than 0 (found -0.1)"),
    ("coop.schedule.momentum", 1.5, "coop.schedule.momentum: input should be less than 1"),
    ("coop.few_shot.position", "begin", "coop.few_shot.position: input should be 'end', 'middle' "
                                        "or 'front' (found 'begin')"),
    ("shots", [0], "shots.0: input should be greater than or equal to 1 (found 0)"),
    ("datasets", {}, "datasets: dictionary should have at least 1 item"),
    ("llm.concurrency", 0, "llm.concurrency: input should be greater than or equal to 1 (found 0)"),
    ("llm.price", {"reply": -1}, "llm.price.reply: input should be greater than or equal to 0"),
    ("llm.corpora", {"shape": "x.json"}, "llm.corpora: 'shape' is not a dataset; did you mean "
                                         "'shapes'?"),
    ("backbone", None, "backbone: field required"),
    ("datasets.shapes", {}, "datasets.shapes: needs images (with a split or without), or a layout"),
    ("datasets.shapes.layout", "dtd", "datasets.shapes: needs images (with a split or without)"),
    ("datasets.dtd", {"layout": "dtd", "split": "x.json"}, "datasets.dtd: needs images (with a"),
    ("datasets.dtd", {"layout": "dttd"}, "datasets.dtd.layout: input should be 'imagenet', 'cal"),
    ("transfer.domain", {"x": {"layout": "dtd", "images": "x"}}, "transfer.domain.x: needs images"),
    ("coop.schedule.epochs_on", {"shape": 5}, "coop.schedule.epochs_on: 'shape' is not a dataset; "
                                              "did you mean 'shapes'?"),
    ("seeds", [1, 1], "seeds: each only once (found [1, 1])"),
    ("datasets.shapes.template", "a photo", "datasets.shapes.template: needs {} once (found "
                                            "'a photo')"),
    ("dualpt.few_shot.text_align", "kld", "dualpt.few_shot.text_align: input should be 'ot', "
                                          "'mean', 'infonce' or 'kl' (found 'kld')"),
    ("dualpt.few_shot.eps_text", 0, "dualpt.few_shot.eps_text: input should be greater than 0"),
    ("dualpt.studies.neither", 3, "dualpt.studies.neither: input should be a valid dictionary"),
    ("dualpt.study_datasets", ["shape"], "dualpt.study_datasets: 'shape' is not a dataset; did you "
                                         "mean 'shapes'?"),
    ("dualview.base_to_new.augmentation", "mix", "dualview.base_to_new.augmentation: input should "
                                                 "be 'none', 'gauss'"),
    ("dualview.ensembles", [1.5], "dualview.ensembles.0: input should be less than or equal to 1"),
    ("dualview.few_shot.tau_mi", 0, "dualview.few_shot.tau_mi: input should be greater than 0"),
    ("kgcoop.few_shot", {}, "kgcoop.schedule.epochs: no number of epochs for 1 shots"),
    ("dualpt.study_shots", [3], "dualpt.schedule.epochs: no number of epochs for 3 shots"),
    ("aape.few_shot.aggregator", "max", "aape.few_shot.aggregator: input should be 'attention', "
                                        "'mean', 'random' or 'mlp' (found 'max')"),
    ("aape.study_shots", [1], "aape.study_shots: base-to-new is trained with base_to_new_shots = 2 "
                              "alone (found [1])"),
    ("captioned", {"shapes": {"images": "a", "captions": "b"}}, "captioned.shapes: there is a "
                                                                "dataset of that name"),
    ("aape.schedule.epochs", {2: 1}, "aape.schedule.epochs: no number of epochs for 1 shot, as "
                                     "captioned needs"),
    ("transfer", None, "transfer: field required"),
    ("transfer.source", "shape", "transfer.source: 'shape' is not a dataset; did you mean "
                                 "'shapes'?"),
    ("transfer.shots", 4, "transfer.shots: must be one of shots, with which linear probes are "
                          "trained (found 4)"),
    ("transfer.shots", 4, "prograd.schedule.epochs: no number of epochs for 4 shots"),
    ("transfer.per_class", 0, "transfer.per_class: input should be greater than or equal to 1"),
    ("transfer.domain", {"lines": {"shift": "drawing"}}, "transfer.domain.lines.shift: input "
                                                         "should be 'sketch', 'rendition',"),
    ("transfer.domain.lines", {}, "transfer.domain.lines: needs images (with a split or without), "
                                  "or a layout, or a shift, and one of them"),
    ("transfer.domain.lines", {"shift": "sketch", "images": "x"}, "transfer.domain.lines: needs"),
    ("transfer.domain.lines", {"shift": "sketch", "split": "x"}, "transfer.domain.lines: needs"),
    ("transfer.domain", {"figures": {"shift": "sketch"}}, "transfer.domain.figures: another kind "
                                                          "of test images is called so; rename"),
    ("transfer.domain", {"original": {"images": "x"}}, "transfer.domain.original: another kind"),
    ("shots", [1, 5], "coop.schedule.epochs: no number of epochs for 5 shots"),
])
def test_wrong_value_is_named(faulty, key, value, message):
    assert message in faulty((key, value))


def test_every_fault_is_listed(faulty):
    error = faulty(("features.view", 2), ("coop.schedule.lr", 0), ("suit", "x"))
    assert len(error.splitlines()) == 4
    assert "features.view: " in error and "coop.schedule.lr: " in error and "suit: " in error


def test_file_that_is_missing_or_not_yaml(tmp_path):
    with pytest.raises(ParamsError, match="params.yaml does not exist"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("suite: [")
    with pytest.raises(ParamsError, match="params.yaml is not valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["", "- a list", "text"])
def test_file_without_keys(tmp_path, content):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(ParamsError, match="params.yaml cannot be used"):
        load_params(tmp_path / "params.yaml")


def test_file_is_found_by_variable_or_upwards(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTSTUDY_PARAMS", str(tiny_suite / "params.yaml"))
    assert load_params().root == tiny_suite.resolve()
    monkeypatch.delenv("PROMPTSTUDY_PARAMS")
    monkeypatch.chdir(tiny_suite / "images" / "shapes")
    assert load_params().suite == "tiny"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="no params.yaml in .* run this inside the project"):
        load_params()


def test_dataset_name(tiny_suite):
    params = load_params(tiny_suite / "params.yaml")
    assert (params.dataset(), params.dataset("figures")) == ("shapes", "figures")
    with pytest.raises(ParamsError, match="dataset 'figure' is not in .* did you mean 'figures'"):
        params.dataset("figure")


def test_dataset_for_tests_alone():
    params = load_params(PROJECT / "params-paper.yaml")
    assert params.any_dataset("imagenet_a") == "imagenet_a"
    assert params.key_of("imagenet_a") == "transfer.domain.imagenet_a"
    assert params.key_of("imagenet") == "datasets.imagenet"
    with pytest.raises(ParamsError, match="dataset 'imagenet_a' is not in params.yaml"):
        params.dataset("imagenet_a")


def test_settings_cannot_be_changed(tiny_suite):
    params = load_params(tiny_suite / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.features.views = 5


# names and templates


@pytest.mark.parametrize("block", ["datasets", "captioned", "transfer.domain"])
@pytest.mark.parametrize("name, better", [
    ("my flowers", "my_flowers"), ("imagenet.v2", "imagenet_v2"), ("../../x", "x"),
    ("x;touch y", "x_touch_y"), ("x $(touch y)", "x_touch_y"), ("l'oreal", "l_oreal"),
    ("-x", "x"), ("café", "cafe"), ("${suite}", "suite"), ("x\n", "x"), ("", "d"), ("花", "d")])
def test_names_that_a_shell_or_a_file_system_may_take_for_more_are_refused(faulty, block, name,
                                                                            better):
    value = {"images": "a", "captions": "b"} if block == "captioned" else {"images": "a"}
    error = faulty((block, {**yaml.safe_load(PARAMS).get(block, {}), name: value}))
    assert f"{block}.{name}: a name may have letters A to Z, digits, _ and - alone" in error
    assert f"; call it {better!r}" in error


@pytest.mark.parametrize("name, better", [
    ("101", "d101"), ("1e5", "d1e5"), ("1_000", "d1_000"), ("on", "don"), ("NA", "dNA"),
    ("nan", "dnan"), ("null", "dnull")])
def test_names_that_are_no_text_in_yaml_or_a_table_are_refused(faulty, name, better):
    error = faulty(("datasets", {name: {"images": "a"}}))
    assert f"datasets.{name}: YAML and the tables of results do not read this name as text" in error
    assert f"call it {better!r}" in error


def test_a_number_as_a_name_is_refused(tmp_path):
    """Without quotes, too, where it is no text for YAML."""
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("  figures:", "  101:").replace("  pairs:", "  on:"))
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert ("datasets: YAML reads the name 101 as a number; a name needs a letter, e.g. 'd101' "
            "(quotes are not enough)") in str(caught.value)
    assert "captioned: YAML reads the name True as True" in str(caught.value)


def test_a_name_that_is_too_long_for_a_file_is_refused(faulty):
    assert "may have 100 letters (found 300)" in faulty(("datasets", {"x" * 300: {"images": "a"}}))


@pytest.mark.parametrize("block, other", [("datasets", "Shapes"), ("transfer.domain", "Figures"),
                                          ("captioned", "SHAPES")])
def test_names_that_differ_in_case_alone_are_refused(faulty, block, other):
    value = {"images": "a", "captions": "b"} if block == "captioned" else {"images": "a"}
    error = faulty((f"{block}.{other}", value))
    both = {f"datasets.{other.lower()}", f"{block}.{other}"}
    line = next(line for line in error.splitlines() if "differ only in upper and lower" in line)
    assert set(line.partition(":")[0].strip().split(" and ")) == both


@pytest.mark.parametrize("template, why", [
    ("a { {}", ": a brace stands alone in it; write {{ or }} for a brace in the prompt"),
    ("a } {}", ": a brace stands alone in it"),
    ("{} or {}", ""), ("a {{}}", ""), ("{name}", ": {name} is not filled; write {}"),
    ("{} {0}", ": {0} is not filled; write {}"), ("{!r}", ""), ("{:>9}", "")])
def test_template_that_cannot_be_filled(faulty, template, why):
    error = faulty(("datasets.shapes.template", template))
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
