"""Everything that can be said about a run directory without torch, as a list of checks."""

from collections.abc import Iterable, Mapping

from shifamind_core.artifacts.code_order import Check, compare_codes
from shifamind_core.artifacts.odd_texts import about_texts
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError


def read_splits(
    run_directory: RunDirectory, names: Iterable[str] = ("val", "test")
) -> tuple[dict[str, Split], list[Check]]:
    """The splits that can be read, and one check each: its size, or why it cannot be read."""
    splits: dict[str, Split] = {}
    checks: list[Check] = []
    for name in names:
        try:
            split = splits[name] = run_directory.read_split(name)
        except ShifamindError as error:
            checks.append(Check(f"split_{name}", "error", str(error)))
            continue
        mean = split.labels.sum() / len(split)
        message = (
            f"{name}: {len(split):,} notes × {split.labels.shape[1]} codes, {mean:.2f} labels a note "
            f"(labels from the {split.labels_from})."
        )
        checks += [Check(f"split_{name}", "ok", message), *split.checks, *_twice(split), *_odd(split)]
    return splits, checks


def inspect_run_directory(
    run_directory: RunDirectory, splits: Mapping[str, Split] | None = None
) -> list[Check]:
    """Checks of what needs no torch: files, split sizes, code order in the JSON file and the splits, concepts.

    Parameters
    ----------
    splits : mapping of str to Split, optional
        Splits already read (`read_splits`); without it, validation and test are read here. The training
        split is large and decides nothing, so it is not read.
    """
    checks = [Check("run_directory", "warning", remark) for remark in run_directory.remarks]
    checks.append(_checkpoint_file(run_directory))
    if splits is None:
        splits, of_splits = read_splits(run_directory)
        checks += of_splits
    return [*checks, *_code_info(run_directory, splits), *_concepts(run_directory)]


def _checkpoint_file(run_directory: RunDirectory) -> Check:
    try:
        path = run_directory.checkpoint
    except ShifamindError as error:
        return Check("checkpoint_file", "error", str(error))
    where = path.relative_to(run_directory.path) if path.is_relative_to(run_directory.path) else path
    return Check("checkpoint_file", "ok", f"{where}: {path.stat().st_size / 1e6:,.1f} MB.")


def _twice(split: Split) -> list[Check]:
    """Equal notes share a document id, so that aligning by id cannot tell them apart."""
    repeated = len(split) - len(set(split.document_ids.tolist()))
    if not repeated:
        return []
    return [
        Check(
            f"repeated_{split.name}",
            "warning",
            f"{split.name}: {repeated:,} notes repeat the text of another.",
        )
    ]


def _odd(split: Split) -> list[Check]:
    return [
        Check(f"texts_{split.name}", "warning", f"{split.name}: {sentence}")
        for sentence in about_texts(split.texts)
    ]


def _code_info(run_directory: RunDirectory, splits: Mapping[str, Split]) -> list[Check]:
    try:
        info = run_directory.code_info
    except ShifamindError as error:
        return [Check("code_info", "error", str(error))]
    if info is None and run_directory.is_classifier:
        return _label_names(run_directory, splits)
    if info is None:
        message = (
            "shared_data/top50_icd10_info.json is missing; codes are taken from the checkpoint or the splits."
        )
        return [Check("code_info", "warning", message)]
    checks = [
        Check(
            "code_info",
            "ok",
            f"top50_icd10_info.json names {len(info.codes)} codes, first {info.codes[0]!r}.",
        )
    ]
    return checks + [
        compare_codes(
            f"code_order_json_{name}", info.codes, "the JSON file", split.codes, f"the {name} split"
        )
        for name, split in splits.items()
        if split.codes is not None
    ]


def _label_names(run_directory: RunDirectory, splits: Mapping[str, Split]) -> list[Check]:
    """What `config.json` calls the labels, against the splits' columns."""
    try:
        names = run_directory.label_names
    except ShifamindError as error:
        return [Check("code_info", "error", str(error))]
    checks = []
    if not run_directory.states_multi_label:
        message = (
            "config.json states no problem_type; its logits are read as multi-label, one sigmoid a label."
        )
        checks.append(Check("problem_type", "warning", message))
    if names is None:
        message = "config.json names no labels (id2label); the splits' columns are taken by position."
        return [*checks, Check("code_info", "warning", message)]
    message = f"config.json names {len(names)} labels, first {names[0]!r}."
    checks.append(Check("code_info", "ok", message))
    return checks + [
        compare_codes(
            f"code_order_json_{name}", names, "config.json", split.codes, f"the {name} split", by_name=True
        )
        for name, split in splits.items()
        if split.codes is not None
    ]


def _concepts(run_directory: RunDirectory) -> list[Check]:
    try:
        embeddings, names = run_directory.concept_embeddings(), run_directory.concept_names
    except ShifamindError as error:
        return [Check("concepts", "error", str(error))]
    if embeddings is not None and names is not None and len(names) != len(embeddings):
        message = f"concept_list.json names {len(names)} concepts, concept_embeddings.npy has {len(embeddings)} rows."
        return [Check("concepts", "warning", message)]
    return []
