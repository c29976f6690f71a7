"""A frozen causal language model that reads images as if they were words."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import MissingFile

IGNORED = -100  # a token that is no target: the padding of shorter captions


class LanguageModel:
    """A causal language model of Hugging Face's transformers, frozen.

    folder: where `save_pretrained` put a model with its tokenizer; or the name of a model that is
    in the local cache of huggingface_hub. Nothing is downloaded. `dim` is the size of its token
    embeddings and `rms` the root mean square of their numbers. Raises `MissingFile` if there is no
    such model.
    """

    def __init__(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network = AutoModelForCausalLM.from_pretrained(  # never from a pickle
                folder, local_files_only=True, use_safetensors=True, dtype=dtype)
        except OSError:
            raise MissingFile(
                f"there is no language model with safetensors at {folder}; `make "
                ".work/llm/smollm2-135m-instruct.txt` installs the default one's package") from None
        self.network = network.eval().requires_grad_(False)
        self.embeddings = cast(Tensor, network.get_input_embeddings().weight)
        self.dim = self.embeddings.shape[1]
        self.rms = self.embeddings.float().square().mean().sqrt().item()
        self.end = self.tokenizer.eos_token_id
        # Every text begins with this token. What stands first attracts attention whatever it is,
        # which is no place for an image.
        begin = self.tokenizer.bos_token_id
        self.begin = self.embeddings[[self.end if begin is None else begin]]

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text, without any that begin or end it."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embedded(self, *parts: str | Tensor) -> Tensor:
        """Return a prompt [T, D] of texts and of tokens [t, D] that are not in the vocabulary.

        The model's own first token comes before them.
        """
        found = [self.embeddings[self.ids(part)] if isinstance(part, str) else part
                 for part in parts]
        return torch.cat([self.begin, *(part.to(self.embeddings.dtype) for part in found)])

    def losses(self, images: Tensor, captions: Tensor) -> Tensor:
        """Return the cross-entropy [N, T] of each token of the captions, after the images' tokens.

        images: [N, t, D], to which gradients flow; captions: tokens [N, T], `IGNORED` after the
        end of a shorter one, where the loss is 0.
        """
        longest = int((captions != IGNORED).sum(dim=1).max())
        captions, rest = captions[:, :longest], captions.shape[1] - longest
        words = self.embeddings[captions.clamp(min=0)]
        begin = self.begin.expand(len(words), 1, -1)
        read = torch.cat([begin, images.to(words.dtype), words[:, :-1]], dim=1)
        hidden = self.network.model(inputs_embeds=read, use_cache=False).last_hidden_state
        # one matrix of all tokens that count: a batch of matrices would copy the vocabulary's
        targets = captions.flatten()
        counts = targets != IGNORED
        logits = self.network.lm_head(hidden[:, images.shape[1]:].flatten(0, 1)[counts])
        losses = torch.zeros(len(targets), device=hidden.device)
        losses[counts] = F.cross_entropy(logits.float(), targets[counts], reduction="none")
        return F.pad(losses.view_as(captions), (0, rest))

    @torch.no_grad()
    def complete(self, prompts: Sequence[Tensor], most: int, batch_size: int = 128) -> list[str]:
        """Return the likeliest next word after another, up to `most` tokens, for each prompt.

        A text ends with its first full stop, line or end of text. prompts: [T, D] each. Those of
        one length are completed together, so none is padded.
        """
        by_length = defaultdict(list)
        for number, prompt in enumerate(prompts):
            by_length[len(prompt)].append(number)
        stops = [self.end, *self.ids("."), *self.ids("\n")]
        texts = [""] * len(prompts)
        for same in by_length.values():
            for start in range(0, len(same), batch_size):
                numbers = same[start:start + batch_size]
                read = torch.stack([prompts[number] for number in numbers])
                found = self.network.generate(
                    inputs_embeds=read, attention_mask=torch.ones(read.shape[:2], dtype=torch.long),
                    do_sample=False, max_new_tokens=most, eos_token_id=stops,
                    pad_token_id=self.end)
                for number, tokens in zip(numbers, found, strict=True):
                    text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                    texts[number] = ended(cast(str, text))
        return texts


def ended(text: str) -> str:
    """Return a text up to its first full stop, which it keeps, or the end of its first line."""
    line, *_ = text.strip().split("\n")
    sentence, stop, _ = line.partition(".")
    return (sentence + stop).strip()
