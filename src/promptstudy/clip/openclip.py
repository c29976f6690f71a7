"""open_clip, imported without Hugging Face's transformers.

Only the text towers that come from Hugging Face need transformers, and importing it would take a
quarter of a stage's start-up time. open_clip can do without it, as it is an optional dependency.
Everything else in this process can import it as usual.
"""

import importlib
from pathlib import Path

from .catalogue import imported_without, model_config

open_clip = imported_without("transformers", "open_clip")


def prepare_for(name: str, root: Path) -> None:
    """Give open_clip transformers if the text tower of the model `name` is Hugging Face's."""
    from_hugging_face = "hf_model_name" in model_config(name, root).get("text_cfg", {})
    if from_hugging_face and open_clip.hf_model.transformers is None:
        importlib.reload(open_clip.hf_model)  # in place, so that the classes made before see it
