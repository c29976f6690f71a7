"""open_clip starts without transformers, which everything else in the process can still use."""

import json
import subprocess
import sys

# in a process of its own, since here conftest has imported open_clip as a whole
STARTED = """
import sys
from promptstudy.clip.openclip import open_clip
import promptstudy.clip.backbone, promptstudy.clip.image_features, promptstudy.clip.text
assert open_clip.hf_model.transformers is None
assert "transformers" not in sys.modules
"""


def run(code, *arguments):
    ended = subprocess.run([sys.executable, "-c", STARTED + code, *arguments], capture_output=True,
                           text=True)
    assert ended.returncode == 0, ended.stderr


def test_transformers_can_be_imported_afterwards():
    """As llm/serve.py and pocket/teacher.py do."""
    run("from transformers import AutoModelForCausalLM, GgufConfig\n"
        "from sentence_transformers import SentenceTransformer")


TOWER = """
from unittest import mock
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.errors import UnsupportedTower
open_clip.add_model_config(sys.argv[1])
import transformers
config = transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
with mock.patch.object(transformers.AutoConfig, "from_pretrained", return_value=config), \\
        mock.patch.object(transformers.AutoModel, "from_pretrained",
                          lambda name, **_: transformers.AutoModel.from_config(config)):
    backbone = load_backbone("with-bert")
tower = backbone.model.text
assert type(tower.transformer) is transformers.BertModel
ids = open_clip.hf_model.torch.ones(2, 5, dtype=open_clip.hf_model.torch.int64)
assert backbone.model.encode_text(ids).shape == (2, 16)
try:
    TextEncoder(backbone.model, backbone.tokenizer)
except UnsupportedTower as error:
    assert "not open_clip's own text transformer" in str(error)
else:
    sys.exit("the tower was not refused")
"""


def test_a_hugging_face_tower_is_built_by_its_name(tmp_path):
    """Its text features can be had; prompts are not learned for it."""
    config = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32,
                                              "layers": 1, "head_width": 16},
              "text_cfg": {"hf_model_name": "some/bert", "hf_pooler_type": "mean_pooler"}}
    (tmp_path / "with-bert.json").write_text(json.dumps(config))
    run(TOWER, str(tmp_path))
