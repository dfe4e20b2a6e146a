"""What each command is asked for: plain records, read from the command line and from a page's JSON alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shifamind_core.options import option
from shifamind_core.precision.policy import POLICIES, Attention
from shifamind_core.runs.manifest import Padding

Casing = Literal["auto", "true", "false"]
ONE_OF = f"one of {', '.join(POLICIES)}"
FIRST = "only the first N notes"


@dataclass(frozen=True)
class NoSpec:
    """Nothing to ask for."""


@dataclass(frozen=True)
class DemoSpec:
    """Where to write the demo."""

    directory: Path = option(metavar="DIR")


@dataclass(frozen=True)
class ServeSpec:
    """What the dashboard opens on, and how browsers come to it."""

    run_directory: str | None = option(
        None, "what to open, else the built-in demo", flag="--run-dir", metavar="RUN_DIR"
    )
    base_model: str | None = option(
        None, "folder with the base model's config.json and vocab.txt", metavar="DIR"
    )
    port: int | None = option(None, "to listen on; else the first free one from 8501", metavar="N")
    host: str = option(
        "127.0.0.1", "to listen on; others are refused without SHIFAMIND_TOKEN", metavar="HOST"
    )
    address: str | None = option(
        None, "of a proxy before it, e.g. https://dashboard.example.org: allowed, and printed", metavar="URL"
    )
    tunnel: Literal["cloudflared"] | None = option(None, "let browsers in through a third party's machines")


@dataclass(frozen=True)
class EvaluateSpec:
    """Which run, and on which other one its threshold is tuned."""

    run_file: str = option(metavar="RUN")
    validation: str | None = option(None, "the run on which the threshold is tuned", metavar="RUN")
    grid: Literal["seed", "clean"] = option("seed", "of thresholds")


@dataclass(frozen=True)
class CompareSpec:
    """Which two runs."""

    candidate: str = option()
    reference: str = option()


@dataclass(frozen=True)
class BoundSpec:
    """The largest change of a logit, or the score that is to be reached."""

    run_file: str = option(metavar="RUN")
    threshold: float = option(0.5, "on probability")
    epsilon: float | None = option(None, "largest change of a logit", metavar="E", either="wanted")
    target_macro_f1: float | None = option(None, metavar="X", either="wanted")
    target_micro_f1: float | None = option(None, metavar="X", either="wanted")


@dataclass(frozen=True)
class DiagnoseSpec(CompareSpec):
    """Which two runs, and what else is known of them."""

    ladder: str | None = option(None, "what `ladder` wrote: rounding measured on this model", metavar="FILE")
    reported: str | None = option(
        None, "the reference's scores as reported, e.g. macro_f1@0.5=0.2934", metavar="SCORES"
    )


@dataclass(frozen=True)
class ReportSpec(CompareSpec):
    """Which two runs, what else is known of them, and where the report goes."""

    candidate_validation: str | None = option(
        None, "the run on which the candidate's threshold is tuned", metavar="RUN"
    )
    reference_validation: str | None = option(None, "the same for the reference", metavar="RUN")
    ladder: str | None = option(None, "what `ladder` wrote: rounding measured on this model", metavar="FILE")
    replay: str | None = option(None, "what `replay --json` printed on these two runs", metavar="FILE")
    output: Path = option(
        Path("report.html"), "a page (.html), or all tables in an archive (.zip)", metavar="FILE"
    )


@dataclass(frozen=True)
class ModelSpec:
    """Which run directory."""

    run_directory: str = option(metavar="RUN_DIR")
    base_model: str | None = option(
        None, "folder with the base model's config.json and vocab.txt", metavar="DIR"
    )
    weights: str | None = option(None, "which, of a checkpoint that holds several", metavar="NAME")


@dataclass(frozen=True)
class DeviceSpec(ModelSpec):
    """Which run directory, and on what it is to run."""

    device: str = option("auto", "auto, cpu or cuda")


@dataclass(frozen=True)
class NotesSpec(DeviceSpec):
    """Which notes, and how they become token ids; the defaults are the seed's."""

    split: str = option("test", "test, val or train")
    lowercase: Casing = option("auto", "auto: as the library decides")
    max_length: int = option(512, "in tokens", metavar="N")


@dataclass(frozen=True)
class ScoreSpec(NotesSpec):
    """How notes are scored, but for the policy."""

    padding: Padding = option("max_length", "of notes in a batch")
    attention: Attention = option("sdpa", "which kernel")
    batch_size: int = option(16, "notes at once", metavar="N")
    limit: int | None = option(None, FIRST, metavar="N")


@dataclass(frozen=True)
class PredictSpec(ScoreSpec):
    """A split under a policy, FP32 unless another is named. Switches that are `None` leave the policy as it is."""

    policy: str = option("fp32", ONE_OF)
    output: Path | None = option(None, "where to write the run file", metavar="FILE")
    deterministic: bool | None = option(None, "deterministic algorithms only")
    cudnn_benchmark: bool | None = None


@dataclass(frozen=True)
class LadderSpec(ScoreSpec):
    """A split under every policy."""

    output: Path | None = option(None, "where to write the ladder, for `diagnose`", metavar="FILE")


@dataclass(frozen=True)
class ReplaySpec(DeviceSpec):
    """A reference run, or scores that were reported: one of them must be given.

    `only` restricts the search to interventions of these names, e.g. the decisive pair of casings.
    """

    reference: str | None = option(None, "the run to reproduce", metavar="RUN", either="other")
    reported: str | None = option(
        None, "e.g. macro_f1@0.5=0.2934,micro_f1@0.5=0.4210", metavar="SCORES", either="other"
    )
    split: str = option("test", "test, val or train")
    notes: int | None = option(None, "notes to screen on (default: 64; all for scores)", metavar="N")
    depth: int = option(3, "most interventions together", metavar="N")
    siblings: tuple[str, ...] = option((), "another checkpoint to try", flag="--sibling", metavar="RUN_DIR")
    only: tuple[str, ...] = option((), "try these alone", metavar="INTERVENTION")


@dataclass(frozen=True)
class LayersSpec(NotesSpec):
    """Every policy against one and the same, on the first notes of a split."""

    policies: tuple[str, ...] = option(("fp32",), ONE_OF, flag="--policy", metavar="A")
    against: str = option("fp64", "another policy", metavar="B")
    attention: Attention = option("sdpa", "of A")
    against_attention: Attention = option("sdpa", "of B")
    notes: int = option(8, FIRST, metavar="N")


@dataclass(frozen=True)
class ProbeSpec(DeviceSpec):
    """On how many notes."""

    notes: int = option(8, FIRST, metavar="N")


@dataclass(frozen=True)
class RoundingSpec(NotesSpec):
    """Notes under `bitwise` and under another policy on this machine; all of them without a limit."""

    policy: str = option("default", ONE_OF)
    limit: int | None = option(None, FIRST, metavar="N")
    threshold: float = option(0.5, "on probability")


@dataclass(frozen=True)
class CertifySpec(NotesSpec):
    """The portable policy on a split, and FP64 on its first notes."""

    limit: int | None = option(None, FIRST, metavar="N")
    referee_notes: int = option(64, "notes also scored in FP64", metavar="N")
    threshold: float = option(0.5, "on probability")
