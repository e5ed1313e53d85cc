"""Hugging Face checkpoints: loading, encoding, training, what converters see. Imports torch; `families` does not."""
