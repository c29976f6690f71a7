"""Class names that make a prompt longer than the text tower can read."""

from ..errors import PromptError
from ..params import Params
from .catalogue import LOCAL, model_config

CONTEXT_LENGTH = 77  # of every model that does not say otherwise
ENSEMBLE_LETTERS = 25  # the longest template of the prompt ensemble has fewer
SHOWN = 10  # how many names are listed
TEMPLATE = "the template"


def check_lengths(params: Params, name: str, class_names: list[str]) -> None:
    """Raise a `PromptError` listing the class names of dataset `name` that are too long.

    A token has at least one letter, so most names need not be tokenised, which would import
    open_clip and with it torch.
    """
    config = model_config(params.backbone.name, params.root).get("text_cfg", {})
    if "hf_tokenizer_name" in config:
        return  # not a tower that prompts are learned for
    length, prompts = config.get("context_length", CONTEXT_LENGTH), _prompts(params, name)
    most = max(n_ctx + (ENSEMBLE_LETTERS if text is None else _most_tokens(text.format("")))
               for text, n_ctx in prompts.values())
    doubtful = [each for each in class_names if 2 + most + _most_tokens(each) > length]
    if doubtful:
        _check_exactly(params, name, doubtful, prompts, length)


def _check_exactly(params, name, class_names, prompts, length):
    from .openclip import open_clip
    from .text_features import ensemble_templates
    source = params.backbone.name
    if source.startswith(LOCAL):
        source = f"{LOCAL}{params.root / source.removeprefix(LOCAL)}"
        if not (params.root / source.removeprefix(LOCAL)).is_dir():
            source = "RN50"  # it has the same tokenizer as all of CLIP's own models
    encode = open_clip.get_tokenizer(source).encode
    ensemble = ensemble_templates(params.template_of(name))
    longest = max(ensemble, key=lambda text: len(encode(text.format(""))))
    prompts = {method: (longest if text is None else text, n_ctx)
               for method, (text, n_ctx) in prompts.items()}
    long = {each: len(encode(each)) for each in class_names
            if any(2 + n_ctx + len(encode(text.format(each))) > length
                   for text, n_ctx in prompts.values())}
    if not long:
        return
    fits = ", ".join(f"{length - 2 - n_ctx - len(encode(text.format('')))} with {method}"
                     for method, (text, n_ctx) in prompts.items())
    listed = "".join(f"\n  {each!r}: {count} tokens" for each, count in list(long.items())[:SHOWN])
    more = f"\n  and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
    raise PromptError(
        f"{params.key_of(name)}: {len(long)} class names are too long, because the text tower "
        f"reads {length} tokens. The most tokens a name may have: {fits}. Shorten the names "
        f"(those of their folders, or in the split file), or lower n_ctx:{listed}{more}")


def _prompts(params, name):
    """What surrounds a class name, `{method: (text, number of context vectors)}`.

    A text of None is the longest template of the prompt ensemble.
    """
    prompts = {TEMPLATE: (params.template_of(name), 0)}
    for method, block in params.methods.items():
        variants = [block.base_to_new, *([block.few_shot] if block.few_shot else []),
                    *(block.ablation_variants if name in block.ablation_datasets else [])]
        contexts = [getattr(variant, "context", variant) for variant in variants]
        lengths = [context.n_ctx for context in contexts if hasattr(context, "n_ctx")]
        if lengths:
            prompts[method] = ("{}.", max(lengths))
        if any(getattr(variant, "hard_view", None) == "ensemble" for variant in variants):
            prompts["the prompt ensemble"] = (None, 0)
    return prompts


def _most_tokens(text):
    """An upper bound on the number of tokens; repairing odd text at most triples its length."""
    return len(text) if text.isascii() and "&" not in text else 3 * len(text.encode())
