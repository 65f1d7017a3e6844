"""What a training from scratch gave: figures, and which classes are taken for each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from condense.measurement import Accuracy
from condense.reporting.figures import accuracy
from condense.training import Result

LAST = 5
"""Epochs over which a plateau is judged."""

LARGEST_MATRIX = 100
"""Classes; of more, the pairs are told only."""

PAIRS = 10


def trained_document(result: Result, classes: Sequence[str]) -> dict[str, Any]:
    """Plain values: `best_epoch`, `val_top1`, `plateau`, `accuracy`, `confusions`, `options`.

    Args:
        result: Of a training with a test.
        classes: Their names, by number.
    """
    last = [record.val_top1 for record in result.history[-LAST:]]
    document = {
        "best_epoch": result.best_epoch,
        "val_top1": result.val_top1,
        "plateau": {"epochs": len(last), "spread": max(last) - min(last)},
        "seconds": result.seconds,
        "options": result.config.to_dict(),
    }
    if result.test is not None:
        document["accuracy"] = {"split": "test", **result.test.to_dict()}
        document["confusions"] = confusions_document(result.test, classes)
    return document


def confusions_document(found: Accuracy, classes: Sequence[str]) -> dict[str, Any]:
    """The pairs of classes that are confused most, both ways together, and the whole matrix.

    Args:
        found: With its confusions.
        classes: Their names, by number.
    """
    if found.confusions is None:
        raise ValueError("this accuracy was measured without noting the answers")
    table = found.confusions
    both = (table + table.T).triu(1)
    places = both.flatten().sort(descending=True, stable=True).indices[:PAIRS]
    pairs = [divmod(int(place), len(table)) for place in places]
    names = [*classes, *map(str, range(len(classes), len(table)))]
    return {
        "classes": names,
        "matrix": table.tolist() if len(table) <= LARGEST_MATRIX else None,
        "pairs": [
            {"classes": [names[i], names[j]], "count": int(both[i, j])}
            for i, j in pairs
            if both[i, j]
        ],
    }


def trained_lines(document: Mapping[str, Any]) -> list[str]:
    """The same in words."""
    score, plateau = document["accuracy"], document["plateau"]
    lines = [
        f"{document['architecture']}  {accuracy(score)} top-1 on {score['n']:,} test images",
        f"best of {document['options']['epochs']} epochs: {document['best_epoch']}, "
        f"{document['val_top1']:.2%} held out; over the last {plateau['epochs']} it varies by "
        f"{100 * plateau['spread']:.2f} points",
    ]
    if pairs := document["confusions"]["pairs"][:3]:
        told = ", ".join(f"{'/'.join(pair['classes'])} {pair['count']}" for pair in pairs)
        lines.append(f"most confused, both ways together: {told}")
    return lines
