"""Read a pickled checkpoint with torch's restricted unpickler and write it as safetensors.

`confined.run` runs this file in a child under limits: a tensor of zero stride in a small file can stand for any size,
and is refused before it is written out.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(pickled: Path, out: Path) -> str | None:
    """Write a state dict as safetensors; return what is wrong with it, None if it was one."""
    import torch
    from safetensors.torch import save_file

    tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        return "it is no dict of tensors by name"
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            return f"'{name}' has {tensor.numel()} elements and the file holds fewer"
    # transformers wants to read there who wrote the file; tied weights may not share memory in safetensors.
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out, {"format": "pt"})
    return None


if __name__ == "__main__":
    sys.exit(convert(Path(sys.argv[1]), Path(sys.argv[2])))
