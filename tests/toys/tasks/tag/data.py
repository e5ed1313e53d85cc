"""Any data set will do: the tags follow from the words."""

from collections import Counter, defaultdict

from stages.core.errors import InputError
from stages.measure.statistics import proportion_interval

DAYS = {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow", "tonight"}
LONG = 7


def tag(word):
    """Return what a word is."""
    return "day" if word.lower() in DAYS else "long" if len(word) >= LONG else "other"


def read(raw):
    """Put the tags of its words, joined by blanks, in the place of an example's label."""
    splits = {
        name: [one._replace(label=" ".join(map(tag, one.text.split()))) for one in examples]
        for name, examples in raw.items()
    }
    if len(classes(splits["train"])) < 2:
        raise InputError("train has one tag only", expected="days, or long words")
    return splits


def stratum(example):
    """Tell texts that have more than plain words from the others."""
    return "tagged" if set(example.label.split()) - {"other"} else "plain"


def classes(train):
    """Return the tags, sorted."""
    return sorted({one for example in train for one in example.label.split()})


def honesty_bar(train, test, seed):
    """Give every word the tag that it had in train most often, and unknown ones the commonest."""
    seen, every = defaultdict(Counter), Counter()
    for word, wanted in _words(train):
        seen[word][wanted] += 1
        every[wanted] += 1
    right = [wanted == (seen[word] or every).most_common(1)[0][0] for word, wanted in _words(test)]
    return {
        "accuracy": sum(right) / len(right),
        "accuracy_interval": proportion_interval(sum(right), len(right)),
        "method": "the commonest tag of each word",
        "n": len(right),
    }


def _words(examples):
    return [pair for one in examples for pair in zip(one.text.split(), one.label.split(), strict=True)]
