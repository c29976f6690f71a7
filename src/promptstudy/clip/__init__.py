"""Frozen CLIP: backbones, image features, prompts and the fast text encoder."""
