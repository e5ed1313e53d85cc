"""What a client is: what it takes of a bundle, which program asks it, and where that program runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".venv-clients"
PROGRAMS = Path(__file__).parent

Form = Literal["genai", "hf", "litert", "litertlm", "mlpackage", "onnx", "task", "text"]
Kind = Literal["python", "node", "browser", "absent"]

FORMS: dict[Form, tuple[str, ...]] = {
    "genai": ("hf/genai_config.json",),
    "hf": ("hf/onnx/*.onnx",),
    "litert": ("litert/model.tflite", "model.tflite"),
    "litertlm": ("litert/model.litertlm",),
    "mlpackage": ("model.mlpackage",),
    "onnx": ("model.onnx",),
    "task": ("litert/task.tflite",),
    "text": ("text/model.onnx",),
}
"""Form → where it lies in a bundle; of an artifact that old runtimes misread, the copy that they refuse."""


@dataclass(frozen=True)
class Client:
    """A runtime as an app would use it.

    Attributes:
        name: as conf/clients, the report and MLflow say it.
        form: what it takes of a bundle.
        kind: what runs its program; `absent` where nothing here can.
        environment: directory below `.venv-clients` that holds it, empty for this very Python.
        program: module or file below this package.
        reads_text: it has a tokenizer of its own; otherwise the app tokenises, and is given the reference's ids.
        absent: why nothing here can run it.
    """

    name: str
    form: Form
    kind: Kind
    environment: str = ""
    program: str = ""
    reads_text: bool = True
    absent: str = ""


def file_of(bundle: Path, form: Form) -> Path | None:
    """Return a bundle's file of a form, None where it has none."""
    found = (path for pattern in FORMS[form] for path in sorted(bundle.glob(pattern)))
    return next(found, None)


def missing(client: Client) -> str | None:
    """Return why a client cannot run here, None where it can."""
    if client.absent:
        return client.absent
    if client.environment and not (INSTALLED / client.environment / "installed").is_file():
        return f"not installed: `make clients` installs it into .venv-clients/{client.environment}"
    return None
