"""Synthetic discharge notes in the style of MIMIC-IV, written by a program from a name and a number.

The style is what matters for the case: capitals carry meaning (`HTN`, `DNR/DNI`, headings, drug names),
`___` stands where a real note was de-identified, most notes outrun 512 tokens and keep their discharge
diagnoses for the end. Evidence for a code is varied, sometimes missing, sometimes denied or a relative's.
"""

import string
from dataclasses import dataclass

from shifamind_core.demo.evidence import EVIDENCE, PATIENTS_DENY, RELATIVES_HAVE
from shifamind_core.demo.labels import CODES, PREVALENCE, TRAITS, draw_codes
from shifamind_core.demo.prose import (
    ALLERGIES,
    COMPLAINTS,
    CONDITION,
    COURSE_OPENING,
    DISPOSITIONS,
    EXAM,
    IMAGING,
    INSTRUCTIONS,
    NEVER_SMOKED,
    OTHER_COURSE,
    OTHER_DRUGS,
    OTHER_FAMILY,
    OTHER_HISTORY,
    PROCEDURES,
    RELATIVES,
    SERVICES,
    SMOKED,
    SMOKES,
    SOCIAL,
    STORY,
    TRANSITION,
)
from shifamind_core.demo.stream import Stream

BANNER = "[Synthetic note: written by a program about nobody]"

# How often a code that is there leaves a trace in each place, and how often it leaves none anywhere.
PLACES = {"history": 0.55, "story": 0.35, "course": 0.50, "drugs": 0.55, "diagnosis": 0.80}
SILENT = 0.16
# How often a condition is documented but not coded, as a share of the code's prevalence: coders leave out what
# did not bear on the stay, and do so more with some codes than with others.
UNCODED = 0.62
OFTEN_UNCODED = 1.0
LOOSELY_CODED = frozenset(
    {
        "F419", "D649", "E669", "Y929", "D62", "N390", "E871", "I252", "N189", "E872", "Z8673", "Z86718", "G8929",
        "K5900", "G4700", "D696", "Y92239", "J9601", "J189", "Z23", "Y92230",
    }
)  # fmt: skip
# Laboratory values out of range: the codes that mean it, how often with one of them, how often without.
ABNORMAL = {
    "anemic": (frozenset({"D62", "D649"}), 0.80, 0.16),
    "few platelets": (frozenset({"D696"}), 0.75, 0.05),
    "kidney injury": (frozenset({"N179"}), 0.75, 0.05),
    "kidney disease": (frozenset({"N189", "N183", "I129", "I130", "E1122"}), 0.80, 0.06),
    "hyponatremic": (frozenset({"E871"}), 0.75, 0.06),
    "acidotic": (frozenset({"E872"}), 0.70, 0.06),
    "hyperglycemic": (frozenset({"E119", "E1122", "Z794"}), 0.75, 0.10),
}
# Casing of an author's list entries, drug names and problem titles; "plain" keeps only abbreviations in capitals.
# No other choice depends on these, so they change no note once it is lower-cased.
LIST_CASING = {"plain": 0.65, "title": 0.22, "caps": 0.13}
DRUG_CASING = {"plain": 0.56, "title": 0.33, "caps": 0.11}
COURSE_CASING = {"plain": 0.53, "title": 0.19, "caps": 0.28}
SHOUTED = 0.04  # authors who dictate the narrative in capitals
SHORT = 0.20


@dataclass(frozen=True)
class SyntheticNote:
    """A note's text and the codes of its admission."""

    text: str
    codes: frozenset[str]

    @property
    def labels(self) -> list[int]:
        """One 0 or 1 a code, in the order of `CODES`."""
        return [int(code in self.codes) for code in CODES]


def write_note(split: str, index: int) -> SyntheticNote:
    """The note of that number in that split; always the same one."""
    stream = Stream("shifamind-demo/1", split, index)
    traits = frozenset(trait for trait, share in TRAITS.items() if stream.chance(share))
    codes = draw_codes(stream, traits)
    return SyntheticNote(_Writer(stream, codes, "female" in traits).note(), codes)


def _cased(text: str, casing: str) -> str:
    """The text in capitals, with capitals at its words' beginnings, or as it is."""
    if casing == "caps":
        return text.upper()
    if casing == "title":
        return " ".join(_sentence(word) for word in text.split(" "))
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(phrases: list[str]) -> str:
    """`a`, `a and b`, `a, b, and c`."""
    if len(phrases) < 3:
        return " and ".join(phrases)
    return f"{', '.join(phrases[:-1])}, and {phrases[-1]}"


def _uncoded(code: str) -> float:
    """Probability that a condition stands in the note of an admission without its code."""
    return (OFTEN_UNCODED if code in LOOSELY_CODED else UNCODED) * PREVALENCE[code]


class _Writer:
    """One author at one note: the casing habits hold for all of it. The order of the draws is part of the text."""

    def __init__(self, stream: Stream, codes: frozenset[str], female: bool) -> None:
        self.stream, self.codes, self.female = stream, codes, female
        self.casing = stream.weighted(LIST_CASING)
        self.drug_casing = stream.weighted(DRUG_CASING)
        self.shouted = stream.chance(SHOUTED)
        self.heading = stream.weighted({"title": 0.55, "caps": 0.45})
        self.complaint = stream.pick(COMPLAINTS)
        self.who = "woman" if female else "man"
        self.mentions = self._mentions()

    def note(self) -> str:
        """The whole text."""
        sections = self._short_sections() if self.stream.chance(SHORT) else self._sections()
        return "\n".join([BANNER, self._header(), *(self._section(*section) for section in sections)]) + "\n"

    def _mentions(self) -> dict[str, list[str]]:
        """What this note says of the codes' conditions, by place: of coded ones mostly, of others sometimes."""
        stream = self.stream
        mentions: dict[str, list[str]] = {place: [] for place in PLACES}
        for code, evidence in EVIDENCE.items():
            if not stream.chance(1 - SILENT if code in self.codes else _uncoded(code)):
                continue
            for place, share in PLACES.items():
                phrases = getattr(evidence, place)
                if phrases and stream.chance(share):
                    mentions[place].append(stream.pick(phrases))
        return {place: stream.shuffled(phrases) for place, phrases in mentions.items()}

    # Sections, in the order in which they stand

    def _sections(self) -> list[tuple[str, str]]:
        front = [
            ("chief complaint", _sentence(self.complaint)),
            ("major surgical or invasive procedure", _cased(self.stream.pick(PROCEDURES), "title")),
            ("history of present illness", self._story()),
            ("past medical history", self._history()),
        ]
        person = [("social history", self._social()), ("family history", self._family())]
        drugs = ("medications on admission", self._drugs(self.mentions["drugs"], 3))
        exam = [("physical exam", self._exam()), ("pertinent results", self._results())]
        course = [("brief hospital course", self._course())]
        back = [
            ("discharge medications", self._drugs(self.mentions["drugs"], 4)),
            ("discharge disposition", self.stream.pick(DISPOSITIONS)),
            ("discharge diagnosis", self._diagnoses()),
            ("discharge condition", " ".join(self.stream.some(CONDITION, 1, 3))),
            ("discharge instructions", self._filled(self.stream.some(INSTRUCTIONS, 3, 9))),
            ("followup instructions", "___"),
        ]
        if self.stream.chance(0.20):  # transfers bring their medication list along
            return [*front, drugs, *person, *exam, *course, *back]
        return [*front, *person, *exam, *course, drugs, *back]

    def _short_sections(self) -> list[tuple[str, str]]:
        return [
            ("chief complaint", _sentence(self.complaint)),
            ("history of present illness", self._story(most=4)),
            ("past medical history", self._history()),
            ("brief hospital course", self._course(most=2)),
            ("discharge medications", self._drugs(self.mentions["drugs"], 1)),
            ("discharge diagnosis", self._diagnoses()),
        ]

    def _section(self, heading: str, body: str) -> str:
        return f"\n{_cased(heading, self.heading)}:\n{body}"

    def _header(self) -> str:
        stream = self.stream
        return (
            f"Name:  ___   Unit No:   ___\nAdmission Date:  ___   Discharge Date:   ___\n"
            f"Date of Birth:  ___   Sex:   {'F' if self.female else 'M'}\nService: {stream.pick(SERVICES)}\n\n"
            f"Allergies:\n{stream.pick(ALLERGIES)}\nAttending: ___."
        )

    def _story(self, most: int = 14) -> str:
        stream = self.stream
        age = stream.pick(("___ yo", "___ year old", "___ y/o"))
        known = [phrase for phrase in self.mentions["history"] if stream.chance(0.45)]
        arrival = "who presents with" if stream.chance(0.7) else "admitted for"
        history = f" with a history of {_listed(known)}" if known else ""
        opening = f"{age} {self.who}{history} {arrival} {self.complaint}."
        rest = stream.shuffled([*self.mentions["story"], *stream.some(STORY, min(5, most), most)])
        return self._filled([opening, *rest])

    def _history(self) -> str:
        stream = self.stream
        entries = stream.shuffled([*self.mentions["history"], *stream.some(OTHER_HISTORY, 0, 5)])
        if not entries:
            return "None."
        if stream.chance(0.25):
            return _cased(", ".join(entries), self.casing)
        marks = stream.pick(("- ", "# ", "", "number"))
        return "\n".join(
            f"{f'{number}. ' if marks == 'number' else marks}{_cased(entry, self.casing)}"
            for number, entry in enumerate(entries, 1)
        )

    def _social(self) -> str:
        stream = self.stream
        lines = [stream.pick(choices) for choices in SOCIAL if stream.chance(0.6)]
        # Said or not, by chance; a former smoker never has the code of a present one (`labels.LINKS`).
        smoking, said = NEVER_SMOKED, 0.50
        if "Z87891" in self.codes:
            smoking, said = SMOKED, 0.55
        elif "F17210" in self.codes:
            smoking, said = SMOKES, 0.60
        if stream.chance(said):
            lines.append(stream.pick(smoking))
        return " ".join(stream.shuffled(lines))

    def _family(self) -> str:
        stream = self.stream
        lines = []
        for _ in range(stream.between(0, 3)):
            relative = stream.pick(RELATIVES)
            if stream.chance(0.7):
                disease = stream.pick(RELATIVES_HAVE[stream.pick(list(RELATIVES_HAVE))].split("|"))
            else:
                disease = stream.pick(OTHER_FAMILY)
            lines.append(f"{relative} {stream.pick(('with', 'had', '-'))} {disease}.")
        if stream.chance(0.4):
            denied = PATIENTS_DENY[stream.pick(list(PATIENTS_DENY))]
            lines.append(
                f"{stream.pick(('No history of', 'Denies', 'Negative for'))} {stream.pick(denied.split('|'))}."
            )
        return " ".join(lines) or "Noncontributory."

    def _exam(self) -> str:
        lines = [self.stream.pick(line.split("|")) for line in EXAM if self.stream.chance(0.85)]
        return "\n".join([f"{_cased('admission', self.heading)}:", *(self._filled([line]) for line in lines)])

    def _results(self) -> str:
        stream = self.stream
        abnormal = {
            value
            for value, (codes, seen, otherwise) in ABNORMAL.items()
            if stream.chance(seen if self.codes & codes else otherwise)
        }
        blocks = []
        for _ in range(stream.between(1, 2)):
            time = f"___ {stream.between(10, 12)}:{stream.between(10, 59)}{stream.pick(('AM', 'PM'))} BLOOD"
            blocks += [f"{time} {self._blood_count(abnormal)}", f"{time} {self._chemistry(abnormal)}"]
        return "\n".join([*blocks, self._filled(stream.some(IMAGING, 1, 4), "\n")])

    def _blood_count(self, abnormal: set[str]) -> str:
        stream = self.stream
        hemoglobin = stream.value(7.0, 10.4) if "anemic" in abnormal else stream.value(10.8, 15.2)
        platelets = stream.between(41, 128) if "few platelets" in abnormal else stream.between(140, 390)
        return (
            f"WBC-{stream.value(4.1, 16.0)} RBC-{stream.value(2.6, 5.1, 2)} "
            f"Hgb-{hemoglobin}{'*' * ('anemic' in abnormal)} "
            f"MCV-{stream.between(79, 101)} RDW-{stream.value(12.1, 17.5)} "
            f"Plt {platelets}{'*' * ('few platelets' in abnormal)}"
        )

    def _chemistry(self, abnormal: set[str]) -> str:
        stream = self.stream
        low, high = (0.5, 1.3)
        if "kidney injury" in abnormal:
            low, high = (2.0, 5.5)
        elif "kidney disease" in abnormal:
            low, high = (1.4, 2.6)
        creatinine = stream.value(low, high)
        glucose = stream.between(160, 390) if "hyperglycemic" in abnormal else stream.between(78, 150)
        sodium = stream.between(119, 131) if "hyponatremic" in abnormal else stream.between(134, 145)
        bicarbonate = stream.between(9, 18) if "acidotic" in abnormal else stream.between(21, 30)
        return (
            f"Glucose-{glucose}{'*' * (glucose > 150)} UreaN-{stream.between(9, 48)} "
            f"Creat-{creatinine}{'*' * (high > 1.3)} Na-{sodium}{'*' * (sodium < 132)} "
            f"K-{stream.value(3.3, 5.2)} Cl-{stream.between(95, 110)} HCO3-{bicarbonate}{'*' * (bicarbonate < 20)}"
        )

    def _course(self, most: int = 6) -> str:
        stream = self.stream
        opening = stream.pick(COURSE_OPENING).format(who=self.who, complaint=self.complaint)
        problems = stream.shuffled([*self.mentions["course"], *stream.some(OTHER_COURSE, 1, most)])
        casing = stream.weighted(COURSE_CASING)
        lines = []
        for problem in problems:
            title, colon, rest = problem.partition(":")
            lines.append(f"# {_cased(title, casing)}{colon}{rest}." if colon else f"{_sentence(problem)}.")
        lines.append(f"Transitional issues: {', '.join(stream.some(TRANSITION, 1, 3))}.")
        return "\n".join([opening, *lines])

    def _drugs(self, wanted: list[str], least: int) -> str:
        stream = self.stream
        entries = stream.shuffled([*wanted, *stream.some(OTHER_DRUGS, least, least + 5)])
        return "\n".join(f"{number}. {self._drug(entry)}" for number, entry in enumerate(entries, 1))

    def _drug(self, entry: str) -> str:
        words = entry.split()
        name_end = next((place for place, word in enumerate(words) if word[0].isdigit()), 1)
        return " ".join([_cased(" ".join(words[:name_end]), self.drug_casing), *words[name_end:]])

    def _diagnoses(self) -> str:
        entries = self.mentions["diagnosis"] or [self.complaint]
        return "\n".join(_cased(entry, self.casing) for entry in entries)

    def _filled(self, sentences: list[str], joint: str = " ") -> str:
        """The sentences with their `{}` filled in: vital signs and other numbers."""
        stream = self.stream
        text = joint.join(sentences)
        values = {
            "n": lambda: str(stream.between(2, 9)),
            "t": lambda: stream.value(96.8, 101.9),
            "h": lambda: str(stream.between(56, 124)),
            "b": lambda: f"{stream.between(92, 178)}/{stream.between(48, 96)}",
            "r": lambda: str(stream.between(12, 26)),
            "s": lambda: str(stream.between(89, 100)),
            "w": lambda: stream.value(3.2, 17.9),
            "p": lambda: str(stream.between(1, 6)),
            "e": lambda: str(stream.between(25, 70)),
            "complaint": lambda: self.complaint,
        }
        parts = []
        for literal, name, _, _ in string.Formatter().parse(text):
            parts.append(literal)
            if name is not None:
                parts.append(values[name]())
        return "".join(parts).upper() if self.shouted else "".join(parts)
