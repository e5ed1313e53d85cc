"""Hugging Face checkpoints: loading, encoding, training and the module that converters see. Imports torch."""
