"""Which codes an admission gets: the published prevalences exactly, with plausible company.

The codes form a forest. A code is drawn given one parent (some other codes, or a trait of the patient):
with probability `when` if the parent is there, and otherwise with whatever probability makes its own
prevalence come out as published. So every prevalence is exact by construction, whatever the links.
"""

from dataclasses import dataclass

from shifamind_core.demo.stream import Stream

# Admissions of the public run of 2026-01-02 that carry each code, of 115,103 (top50_icd10_info.json).
ADMISSIONS = 115_103
COUNTS = {
    "E785": 44_038, "I10": 43_570, "Z87891": 36_294, "K219": 30_801, "F329": 23_228,
    "I2510": 22_606, "N179": 19_705, "F419": 19_151, "Z7901": 15_321, "Z794": 15_275,
    "E039": 15_252, "E119": 13_572, "G4733": 12_658, "D649": 12_467, "E669": 12_145,
    "I4891": 12_034, "F17210": 11_619, "Y929": 11_548, "Z66": 10_743, "J45909": 10_612,
    "Z7902": 10_516, "J449": 10_268, "D62": 10_130, "N390": 9_659, "I129": 9_432,
    "E1122": 9_205, "E871": 8_643, "I252": 8_577, "N189": 8_565, "E872": 8_160,
    "Z8673": 7_911, "Z955": 7_759, "Z86718": 7_598, "G8929": 7_535, "I110": 7_435,
    "K5900": 7_097, "N400": 6_816, "N183": 6_804, "I480": 6_695, "I130": 6_516,
    "G4700": 6_450, "D696": 6_438, "Z951": 6_274, "M109": 6_219, "Y92239": 5_981,
    "J9601": 5_896, "J189": 5_790, "Z23": 5_714, "Y92230": 5_653, "I5032": 5_635,
}  # fmt: skip
CODES = tuple(COUNTS)
PREVALENCE = {code: count / ADMISSIONS for code, count in COUNTS.items()}
TRAITS = {"female": 0.52, "elderly": 0.36}


@dataclass(frozen=True)
class Link:
    """Codes of which an admission has at most one, drawn together.

    `parent` names codes that exclude one another, or one trait; `when` holds each code's probability if
    any of them is there.
    """

    codes: tuple[str, ...]
    parent: tuple[str, ...] = ()
    when: tuple[float, ...] = ()

    def probabilities(self, parent_present: bool) -> tuple[float, ...]:
        """Each code's probability, given the parent."""
        if not self.parent:
            return tuple(PREVALENCE[code] for code in self.codes)
        if parent_present:
            return self.when
        share = sum(TRAITS.get(name, PREVALENCE.get(name, 0.0)) for name in self.parent)
        return tuple(
            (PREVALENCE[code] - given * share) / (1 - share)
            for code, given in zip(self.codes, self.when, strict=True)
        )


HYPERTENSIVE_KIDNEY, HYPERTENSIVE_HEART = ("I129", "I130"), ("I110", "I130")
LINKS = (
    Link(("I10", "I129", "I130", "I110")),
    Link(("N189", "N183"), HYPERTENSIVE_KIDNEY, (0.42, 0.36)),
    Link(("E1122", "E119"), HYPERTENSIVE_KIDNEY, (0.45, 0.06)),
    Link(("I5032",), HYPERTENSIVE_HEART, (0.34,)),
    Link(("I4891", "I480"), HYPERTENSIVE_HEART, (0.24, 0.13)),
    Link(("Z794",), ("E1122", "E119"), (0.52,)),
    Link(("E669",), ("E1122", "E119"), (0.19,)),
    Link(("G4733",), ("E669",), (0.36,)),
    Link(("K219",), ("E669",), (0.36,)),
    Link(("I2510",), ("E1122", "E119"), (0.33,)),
    Link(("I252",), ("I2510",), (0.30,)),
    Link(("Z955",), ("I2510",), (0.31,)),
    Link(("Z951",), ("I2510",), (0.25,)),
    Link(("Z7902",), ("I2510",), (0.32,)),
    Link(("E785",), ("I2510",), (0.70,)),
    Link(("Z7901",), ("I4891", "I480"), (0.50,)),
    Link(("Z86718",), ("Z7901",), (0.25,)),
    Link(("N179",), HYPERTENSIVE_KIDNEY, (0.38,)),
    Link(("E872",), ("N179",), (0.21,)),
    Link(("E871",), ("N179",), (0.13,)),
    Link(("F17210", "Z87891")),
    Link(("J449",), ("F17210", "Z87891"), (0.15,)),
    Link(("J45909",), ("female",), (0.115,)),
    Link(("J9601",), ("J449",), (0.15,)),
    Link(("J189",), ("J9601",), (0.26,)),
    Link(("D62", "D649")),
    Link(("D696",), ("D62",), (0.11,)),
    Link(("F329",), ("female",), (0.24,)),
    Link(("F419",), ("F329",), (0.37,)),
    Link(("G4700",), ("F419",), (0.12,)),
    Link(("G8929",), ("F329",), (0.12,)),
    Link(("K5900",), ("G8929",), (0.14,)),
    Link(("E039",), ("female",), (0.19,)),
    Link(("N400",), ("female",), (0.0,)),
    Link(("N390",), ("female",), (0.115,)),
    Link(("M109",), HYPERTENSIVE_KIDNEY, (0.14,)),
    Link(("Z8673",), ("elderly",), (0.11,)),
    Link(("Z66",), ("elderly",), (0.19,)),
    Link(("Y929", "Y92239", "Y92230"), ("N179",), (0.11, 0.08, 0.07)),
    Link(("Z23",), ("elderly",), (0.07,)),
)


def draw_codes(stream: Stream, traits: frozenset[str]) -> frozenset[str]:
    """The codes of one admission; `traits` are those of `TRAITS` that the patient has."""
    present = set(traits)
    for link in LINKS:
        point, reached = stream.unit(), 0.0
        probabilities = link.probabilities(bool(present & set(link.parent)))
        for code, probability in zip(link.codes, probabilities, strict=True):
            if reached <= point < reached + probability:
                present.add(code)
            reached += probability
    return frozenset(present - set(TRAITS))
