"""Ask the teacher about all that students are to learn from: once, however many students there will be.

Reads: the data's splits; the teacher; unlabelled texts where conf/transfer names some.
Writes: `pool.npz` (`input_ids` int32 [n, max_length], `lengths` int32 [n], `wanted` int64 [n] or [n, max_length],
    `logits` of the teacher), `summary.json` (how many texts of each kind were made, left out, kept), `manifest.json`.
Why: more distinct texts that the teacher answered is what a student gains most from, and asking is half of the work.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.core.splits import UNKNOWN
from stages.schema.task import Task
from stages.schema.transfer import Transfer

if TYPE_CHECKING:
    from stages.models.encode import Encoded
    from stages.models.examples import Examples

TEXT = "text"
TOOLS = ("tokenizers", "torch", "transformers")


class Params(Section):
    """What is made of the texts, and how long they may be."""

    task: Task
    transfer: Transfer


def learnable(
    pool: Examples,
    kinds: Mapping[str, int],
    unlabelled: Encoded | None,
    held_out: Mapping[str, Encoded],
    settings: Transfer,
) -> tuple[Examples, dict[str, dict[str, int]]]:
    """Leave out what is held out or repeated, and unlabelled texts beyond their share.

    Args:
        pool: the train split and its copies.
        kinds: kind → how many of them there are, in their order.
        unlabelled: texts of the user's own; None where there are none.
        held_out: split → its texts.
        settings: the share of unlabelled texts, and the seed by which they are drawn.

    Returns:
        What is left, and kind → how many were made, left out for which reason, and kept.
    """
    from stages.models import answered
    from stages.models.examples import Examples

    whole, own = pool, len(pool)
    if unlabelled is not None:
        unknown = np.full((len(unlabelled), *pool.wanted.shape[1:]), UNKNOWN, np.int64)
        encoded = pool.encoded.followed_by(unlabelled)
        whole = Examples(encoded, np.concatenate([pool.wanted, unknown]), pool.items)
        kinds = {**kinds, TEXT: len(unlabelled)}
    kept, counts = answered.sift(whole.encoded, kinds, held_out)
    if unlabelled is not None:
        left = np.flatnonzero(kept[own:]) + own
        most = int(kept[:own].sum() * settings.text_share / (1 - settings.text_share))
        beyond = np.random.default_rng([settings.seed, 1]).permutation(left)[most:]
        kept[beyond] = False
        counts[TEXT] |= {"beyond_share": len(beyond), "kept": len(left) - len(beyond)}
    return whole.take(np.flatnonzero(kept)), counts


def run(settings: Params, data: Path, teacher: Path, texts: Path, out: Path) -> None:
    """Make the texts and ask.

    Args:
        settings: what to make.
        data: output of `prepare`.
        teacher: output of `teacher`.
        texts: below it lies the output of `unlabelled` for each source; not read where there are none.
        out: directory to write.
    """
    sources = {f"text-{number}": texts / str(number) for number in range(len(settings.transfer.text))}
    parents = {"data": data, "teacher": teacher, **sources}
    for path in parents.values():
        artifact.require(path)
    from stages.models import answered, augment, checkpoint
    from stages.models.encode import encode
    from stages.models.near import Near
    from stages.models.training import reproducible
    from stages.tasks.examples import held_out, to_learn

    transfer, task = settings.transfer, settings.task
    model, tokenizer = checkpoint.load_model(teacher), checkpoint.load_tokenizer(teacher)
    labels = splits.read_labels(data)
    train = to_learn(task.name, tokenizer, splits.read_split(data, "train"), labels, task.max_length)
    near = Near(model, tokenizer, transfer.neighbours) if transfer.near else None
    unlabelled = [splits.read_split(path, TEXT).texts for path in sources.values()]
    pool, counts = learnable(
        *augment.pool(train, transfer, tokenizer, near),
        encode(tokenizer, [text for part in unlabelled for text in part], task.max_length) if unlabelled else None,
        held_out(tokenizer, data, task.max_length),
        transfer,
    )
    with reproducible(transfer.seed):
        answers = answered.ask(model, pool.encoded, transfer.arithmetic)
    summary: dict[str, Any] = {"kinds": counts, "texts": len(pool)}
    if unlabelled:
        summary["text_share"] = counts[TEXT]["kept"] / len(pool)
    with artifact.writing(out, stage="transfer", parents=parents, params=settings, tools=TOOLS) as temporary:
        answered.save(pool, answers, temporary)
        artifact.write_json(temporary / answered.SUMMARY, summary)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "teacher", "texts", "out")


if __name__ == "__main__":
    sys.exit(main())
