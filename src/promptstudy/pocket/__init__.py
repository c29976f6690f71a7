"""Pocket CLIP: a small open_clip model built only from packages, without image-text pairs.

The image tower is EfficientNet-Lite2 (ImageNet weights) and a linear projection onto the principal
directions of its own classifier (`model`). A *teacher* maps the nouns of WordNet (`vocabulary`)
into the space of that classifier by kernel ridge regression on the 1000 ImageNet classes and on
named pictures (`pictures`, `teacher`), and CLIP's causal text transformer is distilled from it
(`text_tower`, `distillation`).
`notebooks/00_pocket_clip.ipynb` explains it.
"""

from .distillation import distillation_loss, train_text_tower
from .model import (
    centred_rows,
    efficientnet_weights,
    fit_logit_scale,
    model_config,
    new_model,
    principal_directions,
    save_model,
    stored_state,
    tower_digests,
    versions,
)
from .pictures import clip_art, held_out_pictures, picture_features, picture_rows, stamps
from .teacher import (
    Graph,
    Pairs,
    Teacher,
    Views,
    held_out_retrieval,
    sentence_encoder,
    teacher_targets,
    text_provenance,
)
from .text_tower import (
    TextSampler,
    encode_words,
    initialise_tokens,
    nearest_names,
    token_strings,
    token_vectors,
    tokenize_words,
)
from .vocabulary import (
    Vocabulary,
    gloss_text,
    imagenet_classes,
    imagenet_synsets,
    phrases,
    read_wordnet,
    visual_vocabulary,
)
