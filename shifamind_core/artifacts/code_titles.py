"""What the case's 50 codes stand for: their titles in ICD-10-CM, which is in the public domain.

N183 and E872 carry the titles under which the case's admissions were coded; later editions split both.
"""

CODE_TITLES = {
    "D62": "Acute posthemorrhagic anemia",
    "D649": "Anemia, unspecified",
    "D696": "Thrombocytopenia, unspecified",
    "E039": "Hypothyroidism, unspecified",
    "E1122": "Type 2 diabetes mellitus with diabetic chronic kidney disease",
    "E119": "Type 2 diabetes mellitus without complications",
    "E669": "Obesity, unspecified",
    "E785": "Hyperlipidemia, unspecified",
    "E871": "Hypo-osmolality and hyponatremia",
    "E872": "Acidosis",
    "F17210": "Nicotine dependence, cigarettes, uncomplicated",
    "F329": "Major depressive disorder, single episode, unspecified",
    "F419": "Anxiety disorder, unspecified",
    "G4700": "Insomnia, unspecified",
    "G4733": "Obstructive sleep apnea (adult) (pediatric)",
    "G8929": "Other chronic pain",
    "I10": "Essential (primary) hypertension",
    "I110": "Hypertensive heart disease with heart failure",
    "I129": "Hypertensive chronic kidney disease with stage 1 through stage 4 chronic kidney disease, or unspecified chronic kidney disease",
    "I130": "Hypertensive heart and chronic kidney disease with heart failure and stage 1 through stage 4 chronic kidney disease, or unspecified chronic kidney disease",
    "I2510": "Atherosclerotic heart disease of native coronary artery without angina pectoris",
    "I252": "Old myocardial infarction",
    "I480": "Paroxysmal atrial fibrillation",
    "I4891": "Unspecified atrial fibrillation",
    "I5032": "Chronic diastolic (congestive) heart failure",
    "J189": "Pneumonia, unspecified organism",
    "J449": "Chronic obstructive pulmonary disease, unspecified",
    "J45909": "Unspecified asthma, uncomplicated",
    "J9601": "Acute respiratory failure with hypoxia",
    "K219": "Gastro-esophageal reflux disease without esophagitis",
    "K5900": "Constipation, unspecified",
    "M109": "Gout, unspecified",
    "N179": "Acute kidney failure, unspecified",
    "N183": "Chronic kidney disease, stage 3 (moderate)",
    "N189": "Chronic kidney disease, unspecified",
    "N390": "Urinary tract infection, site not specified",
    "N400": "Benign prostatic hyperplasia without lower urinary tract symptoms",
    "Y92230": "Patient room in hospital as the place of occurrence of the external cause",
    "Y92239": "Unspecified place in hospital as the place of occurrence of the external cause",
    "Y929": "Unspecified place or not applicable",
    "Z23": "Encounter for immunization",
    "Z66": "Do not resuscitate",
    "Z7901": "Long term (current) use of anticoagulants",
    "Z7902": "Long term (current) use of antithrombotics/antiplatelets",
    "Z794": "Long term (current) use of insulin",
    "Z86718": "Personal history of other venous thrombosis and embolism",
    "Z8673": "Personal history of transient ischemic attack (TIA), and cerebral infarction without residual deficits",
    "Z87891": "Personal history of nicotine dependence",
    "Z951": "Presence of aortocoronary bypass graft",
    "Z955": "Presence of coronary angioplasty implant and graft",
}


def code_title(code: str) -> str | None:
    """The official title, with or without the dot in the code; `None` for a code that is not among the 50.

    >>> code_title("I10"), code_title("i25.10")
    ('Essential (primary) hypertension', 'Atherosclerotic heart disease of native coronary artery without angina pectoris')
    >>> code_title("column 3") is None
    True
    """
    return CODE_TITLES.get(code.replace(".", "").upper())
