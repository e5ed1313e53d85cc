"""Let a teacher from outside write the texts that a build learns from and is judged by.

Reads: a Hugging Face directory, a GGUF file or a hub repository.
Writes: `texts.json`, `manifest.json`.
Why: of a language model whose training text is not at hand, what it says itself is the one kind of text that it is
    known to know; a student of it needs no other (Kim & Rush, Sequence-Level Knowledge Distillation, 2016).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.errors import ConfigError
from stages.core.params import Section
from stages.schema.data import Samples
from stages.schema.model import CheckpointTeacher
from stages.schema.task import Task
from stages.tasks import registry as tasks

TOOLS = ("tokenizers", "torch", "transformers")


class Params(Section):
    """Who writes, how much, and how long texts may be."""

    task: Task
    teacher: CheckpointTeacher
    data: Samples


def run(settings: Params, out: Path) -> None:
    """Import the teacher as `teacher` will, and let it write.

    Raises:
        ConfigError: models of the task do not continue texts.
        InputError: the checkpoint cannot be taken in.
    """
    from stages.models import importing, sampling

    teacher, task, data = settings.teacher, settings.task, settings.data
    asked = tasks.model(task.name)
    if not asked.CONTINUES:
        raise ConfigError(f"a model of task '{task.name}' writes no texts", expected="another data set: data=…")
    with importing.opened(teacher.path, teacher.revision, teacher.limits) as (directory, files):
        model, tokenizer = importing.read(directory, [], task.max_length, teacher.limits, asked.HEAD)
        parents = {f"checkpoint/{name}": path for name, path in files.items()}
    texts = sampling.write(model, tokenizer, data.texts, task.max_length, data.temperature, data.seed)
    with artifact.writing(out, stage="sample", parents=parents, params=settings, tools=TOOLS) as temporary:
        artifact.write_json(temporary / Samples.NAME, texts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "out")


if __name__ == "__main__":
    sys.exit(main())
