"""Reproduce, study and extend four CLIP prompt-learning papers."""
