"""The chain from a bundle back to teacher, data and code: how it is carried, signed, walked and checked."""
