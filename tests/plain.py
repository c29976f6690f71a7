"""CoOp's text side in its usual, slow form: 77 tokens per class and run, nothing shared.

Written from the paper's description (section 3.2), on open_clip's own modules, so that tests and
benchmarks can hold the fast text encoder against something that shares no code with it.
"""

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

# the towers of tests are small: a second thread does not help, and on a busy machine it costs
torch.set_num_threads(1)

TOKENIZER = open_clip.get_tokenizer("RN50")
VISION = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=16, image_size=32)
POCKET = {"dim": 192, "width": 256, "heads": 4, "layers": 4}  # the pocket CLIP's text tower


def small_clip(dim=24, *, custom=False, quick_gelu=False, seed=0, **text):
    """Return a frozen random CLIP with a text tower of the given shape; no weight is 0 or 1."""
    torch.manual_seed(seed)
    text = CLIPTextCfg(**{"width": 32, "heads": 2, "layers": 2} | text)
    model = (CustomTextCLIP if custom else CLIP)(dim, VISION, text, quick_gelu=quick_gelu)
    return shaken(model)


def shaken(model):
    """Freeze `model` and move its biases, norms and scales away from their neutral values."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.1 * noise
    return model.eval().requires_grad_(False)


def plain_prompts(model, class_names, contexts, position):
    """Return `(embedded prompts [C, 77, D], EOT positions [C])` of one run.

    contexts: [M, D], one for all classes, or [C, M, D], one a class.
    """
    tower = getattr(model, "text", model)
    n_ctx = contexts.shape[-2]
    first = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    prompts, ends = [], []
    for index, name in enumerate(class_names):
        tokens = TOKENIZER([" ".join(["X"] * n_ctx) + f" {name}."])[0]
        words = tower.token_embedding(tokens)
        context = contexts if contexts.ndim == 2 else contexts[index]
        rest = words[1 + n_ctx:]
        length = len(TOKENIZER.encode(name))
        prompts.append(torch.cat([words[:1], context[:first], rest[:length], context[first:],
                                  rest[length:]]))
        ends.append(tokens.argmax())
    return torch.stack(prompts), torch.stack(ends)


def plain_encode(model, prompts, ends):
    """Return un-normalised features [C, d] of embedded prompts [C, S, D] with their EOT at `ends`.

    S is 77, or less for prompts cut after their last EOT.
    """
    tower = getattr(model, "text", model)
    length = prompts.shape[1]
    x = prompts + tower.positional_embedding[:length]
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    x = tower.ln_final(x)[torch.arange(len(x)), ends]
    if tower.text_projection is None:
        return x
    if isinstance(tower.text_projection, torch.nn.Linear):
        return tower.text_projection(x)
    return x @ tower.text_projection


def plain_features(model, class_names, contexts, position="end"):
    """Return un-normalised text features [C, d] of one run, from all 77 tokens of every prompt."""
    return plain_encode(model, *plain_prompts(model, class_names, contexts, position))


def difference(value, reference):
    """Return the largest difference, relative to the reference's largest magnitude."""
    return ((value - reference).abs().max() / reference.abs().max()).item()
