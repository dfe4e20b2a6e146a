"""Library versions under which the same run directory gives other logits, kept as data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.errors import ShifamindError

Condition = Literal["casing_unstated"]


@dataclass(frozen=True)
class VersionHazard:
    """A range of versions that behaves unlike the others, and for which base models.

    Attributes
    ----------
    versions : str
        A version specifier (PEP 440).
    condition : str
        Which base models are concerned: `casing_unstated` = BERT with a vocabulary alone, so that the
        library's default decides about casing.
    message : str
        What differs and what to do, for people.
    source : str
        Where this is known from.
    """

    name: str
    library: str
    versions: str
    condition: Condition
    message: str
    source: str


HAZARDS: tuple[VersionHazard, ...] = (
    VersionHazard(
        name="vocabulary_only_keeps_case",
        library="transformers",
        versions=">=5.0,<5.3",
        condition="casing_unstated",
        message=(
            "transformers 5.0 to 5.2 keep the case of a BERT base model that ships a vocabulary alone, where "
            "4.57 and 5.3 onwards lower-case it: nearly every note gets other tokens. Set the casing control "
            "to what the checkpoint was trained with instead of the library's default."
        ),
        source="measured with more than 15 releases on a folder of config.json and vocab.txt",
    ),
)


def hazards_for(base_model: Path, transformers_version: str) -> tuple[VersionHazard, ...]:
    """The hazards that apply to this base model folder under this version of `transformers`.

    Raises
    ------
    ShifamindError
        The version is none, or a file of the base model cannot be read.
    """
    try:
        version = Version(transformers_version)
    except InvalidVersion as error:
        raise ShifamindError(f"{transformers_version!r} is no version of transformers.") from error
    return tuple(
        hazard
        for hazard in HAZARDS
        if SpecifierSet(hazard.versions).contains(version, prereleases=True) and _concerns(hazard, base_model)
    )


def _concerns(hazard: VersionHazard, base_model: Path) -> bool:
    return hazard.condition == "casing_unstated" and casing_unstated(base_model)


def casing_unstated(base_model: Path) -> bool:
    """Does the folder leave casing to the library: `vocab.txt`, no `tokenizer.json`, no `do_lower_case` in its settings?"""
    if (base_model / "tokenizer.json").exists() or not (base_model / "vocab.txt").exists():
        return False
    return "do_lower_case" not in read_json_object(base_model / "tokenizer_config.json", missing={})
