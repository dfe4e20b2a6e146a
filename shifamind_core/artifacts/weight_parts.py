"""Into which parts a model's weights fall, told by their names: embeddings, layers of the encoder, heads.

The lines that `capture` prints carry the source of this function: it needs nothing but `re`.
"""

import re

# How names of parts begin and end.
ENCODER, HEAD = "encoder.", "head."
EMBEDDINGS, LAYER, NORMS = "embeddings", "encoder.layer.", ".norms"


def weight_parts(names: list[str]) -> dict[str, dict[str, str]]:
    """By part (encoder.embeddings, encoder.layer.3, encoder.layer.3.norms, head.classifier, ...) names of tensors.

    The encoder is what stands below the one shortest path that has embeddings and numbered layers; all else is the
    head; without such a path there are no parts. With every name goes what is left of it below that path.
    """
    paths = {name: name.split(".")[:-1] for name in sorted(names)}
    starts = {
        tuple(path[:place])
        for path in paths.values()
        for place, step in enumerate(path)
        if re.search("embed|wte", step, re.IGNORECASE)
    }
    numbered = {
        tuple(path[:place]) for path in paths.values() for place, step in enumerate(path) if step.isdigit()
    }
    starts = {start for start in starts if any(one[: len(start)] == start for one in numbered)}
    starts = starts - {()} or starts  # at the top stands the whole model, unless it is a bare encoder
    shortest = [start for start in starts if len(start) == min(map(len, starts))]
    if len(shortest) != 1:
        return {}
    parts, depth = {}, len(shortest[0])
    for name, path in paths.items():
        inside = tuple(path[:depth]) == shortest[0]
        steps = path[depth:] if inside else path or [name]
        number = next((place for place, step in enumerate(steps) if step.isdigit()), None)
        if not inside:
            part = "head." + ".".join(steps if number is None else steps[: number + 1])
        else:
            part = "encoder." + (
                "layer." + steps[number] if number is not None else steps[0] if steps else "other"
            )
            if any(re.search("norm|^ln", step, re.IGNORECASE) for step in steps):
                part += ".norms"
        parts.setdefault(part, {})[name] = ".".join(name.split(".")[depth if inside else 0 :])
    return parts
