"""What a note says when an admission has a code: phrases by the place where clinicians put them.

Written for this demo. Abbreviations are in capitals as clinicians write them; `notes.py` decides the casing
of everything else. `|` separates the variants of a phrase.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """Phrases for one code.

    Attributes
    ----------
    history : tuple of str
        Entries of the past medical history; they also stand in "with a history of …".
    story : tuple of str
        Sentences of the history of present illness.
    course : tuple of str
        Problems of the hospital course, "PROBLEM: what was done".
    drugs : tuple of str
        Medication list entries. Several codes share drugs, as in life.
    diagnosis : tuple of str
        Entries of the discharge diagnosis.
    """

    history: tuple[str, ...] = ()
    story: tuple[str, ...] = ()
    course: tuple[str, ...] = ()
    drugs: tuple[str, ...] = ()
    diagnosis: tuple[str, ...] = ()


def _of(**phrases: str) -> Evidence:
    return Evidence(**{place: tuple(text.split("|")) for place, text in phrases.items()})


EVIDENCE: dict[str, Evidence] = {
    "E785": _of(
        history="HLD|hyperlipidemia|dyslipidemia|high cholesterol|hypercholesterolemia|elevated lipids",
        drugs="atorvastatin 40 mg PO QPM|simvastatin 20 mg PO QPM|rosuvastatin 10 mg PO QPM|pravastatin 40 mg PO DAILY|ezetimibe 10 mg PO DAILY",
        course="HLD: home statin continued|hyperlipidemia: statin held while LFTs were up, restarted",
        diagnosis="hyperlipidemia|dyslipidemia",
    ),
    "I10": _of(
        history="HTN|hypertension|essential hypertension|high blood pressure|elevated BP, on two agents",
        story="Home blood pressure pills were not taken for two days.|BP at triage was 182/96.",
        drugs="amlodipine 5 mg PO DAILY|lisinopril 20 mg PO DAILY|hydrochlorothiazide 25 mg PO DAILY|losartan 50 mg PO DAILY",
        course="HTN: normotensive, home amlodipine continued|hypertension: lisinopril held, then resumed",
        diagnosis="hypertension|HTN",
    ),
    "Z87891": _of(
        history="former smoker|tobacco use, quit|ex-smoker",
        story="A former smoker, about 25 pack years.|Stopped smoking some years ago.",
        diagnosis="history of tobacco use",
    ),
    "K219": _of(
        history="GERD|reflux|acid reflux|gastroesophageal reflux|heartburn on PPI|hiatal hernia with reflux",
        story="Reports sour taste and heartburn after meals.",
        drugs="omeprazole 20 mg PO DAILY|pantoprazole 40 mg PO Q24H|ranitidine 150 mg PO BID|famotidine 20 mg PO BID",
        course="GERD: home PPI continued|reflux: omeprazole continued",
        diagnosis="GERD|gastroesophageal reflux",
    ),
    "F329": _of(
        history="depression|depressive disorder|MDD|depressed mood on SSRI|major depression",
        story="Mood has been low since the spring.|Followed by psychiatry for depression.",
        drugs="sertraline 50 mg PO DAILY|fluoxetine 20 mg PO DAILY|citalopram 20 mg PO DAILY|bupropion XL 150 mg PO DAILY|mirtazapine 15 mg PO QHS",
        course="depression: home sertraline continued, no SI|MDD: SSRI continued",
        diagnosis="depression|major depressive disorder",
    ),
    "I2510": _of(
        history="CAD|coronary artery disease|coronary disease|ischemic heart disease|three vessel CAD|CAD, nonobstructive on cath",
        story="Known coronary disease, last stress test without ischemia.|Has rare angina with stairs.",
        drugs="aspirin 81 mg PO DAILY|metoprolol succinate XL 50 mg PO DAILY|nitroglycerin SL 0.4 mg PRN chest pain|isosorbide mononitrate 30 mg PO DAILY",
        course="CAD: troponin flat, aspirin and statin continued|coronary artery disease: no chest pain, beta blocker continued",
        diagnosis="coronary artery disease|CAD",
    ),
    "N179": _of(
        story="Creatinine was 2.9 from a baseline near 1.|Poor PO intake and little urine for three days; Cr up to 3.1.|Labs showed acute kidney injury.|Found to have AKI in the ED.",
        course="AKI: Cr peaked at 3.2, felt prerenal, improved with IVF|acute kidney injury: renal US without hydronephrosis, creatinine fell to baseline|acute renal failure: likely ATN, nephrology followed|ARF: ACE inhibitor held, creatinine trended down",
        diagnosis="acute kidney injury|AKI|acute renal failure",
    ),
    "F419": _of(
        history="anxiety|anxiety disorder|panic attacks|GAD|anxious, on PRN benzodiazepine",
        story="Very anxious on arrival, settled with reassurance.",
        drugs="lorazepam 0.5 mg PO Q8H:PRN anxiety|clonazepam 0.5 mg PO BID|alprazolam 0.25 mg PO TID:PRN|buspirone 10 mg PO BID",
        course="anxiety: home lorazepam continued|anxiety: social work met with patient",
        diagnosis="anxiety|anxiety disorder",
    ),
    "Z7901": _of(
        history="on warfarin|on coumadin|anticoagulated|on apixaban|chronic anticoagulation",
        story="Takes warfarin; INR on arrival 2.6.|On rivaroxaban, last dose yesterday.|INR was supratherapeutic at 4.8.",
        drugs="warfarin 5 mg PO DAILY16|apixaban 5 mg PO BID|rivaroxaban 20 mg PO DAILY|enoxaparin 80 mg SC Q12H|dabigatran 150 mg PO BID",
        course="anticoagulation: warfarin held, bridged with heparin, INR 2.2 at discharge|anticoagulation: apixaban resumed",
        diagnosis="long term anticoagulation",
    ),
    "Z794": _of(
        history="insulin dependent|on insulin|on glargine and sliding scale|IDDM|insulin-requiring",
        story="Takes Lantus at night and Humalog with meals.|Fingersticks at home in the 300s despite insulin.",
        drugs="insulin glargine 24 units SC QHS|Lantus 30 units SC at bedtime|Humalog sliding scale SC QACHS|insulin lispro 8 units SC with meals|NPH 16 units SC BID",
        course="diabetes: home glargine with Humalog sliding scale|hyperglycemia: insulin titrated, endocrinology consulted",
        diagnosis="diabetes on insulin",
    ),
    "E039": _of(
        history="hypothyroidism|hypothyroid|underactive thyroid|hypothyroidism s/p thyroidectomy|Hashimoto thyroiditis",
        drugs="levothyroxine 75 mcg PO DAILY|levothyroxine 112 mcg PO DAILY|Synthroid 88 mcg PO DAILY",
        course="hypothyroidism: TSH normal, levothyroxine continued",
        diagnosis="hypothyroidism",
    ),
    "E119": _of(
        history="DM2|type 2 diabetes|T2DM|diabetes mellitus|diet controlled diabetes|NIDDM|borderline diabetic on metformin",
        story="Diabetes has been well controlled, last A1c 6.9.",
        drugs="metformin 1000 mg PO BID|glipizide 5 mg PO DAILY|sitagliptin 100 mg PO DAILY|metformin XR 500 mg PO DAILY",
        course="DM2: metformin held, sliding scale while in house|type 2 diabetes: A1c 7.1, metformin resumed at discharge",
        diagnosis="type 2 diabetes mellitus|diabetes",
    ),
    "G4733": _of(
        history="OSA|OSA on CPAP|obstructive sleep apnea|sleep apnea, does not tolerate CPAP|sleep apnea",
        story="Uses CPAP most nights.",
        course="OSA: CPAP at night with continuous oximetry|sleep apnea: declined CPAP",
        diagnosis="obstructive sleep apnea",
    ),
    "D649": _of(
        history="anemia|chronic anemia|anemia, baseline Hct 30|normocytic anemia",
        story="Hgb 9.4, near the known baseline.|Noted to be anemic without bleeding.",
        drugs="ferrous sulfate 325 mg PO DAILY|cyanocobalamin 1000 mcg PO DAILY",
        course="anemia: Hct stable, iron studies pending|anemia: no evidence of bleeding, hemolysis labs negative",
        diagnosis="anemia|chronic anemia",
    ),
    "E669": _of(
        history="obesity|obese|BMI 36|morbid obesity|overweight, BMI 38|s/p gastric bypass for obesity",
        story="An obese patient, BMI 37.|Body habitus limited the ultrasound.",
        course="obesity: nutrition counseling given",
        diagnosis="obesity",
    ),
    "I4891": _of(
        history="AF|atrial fibrillation|afib|A-fib|AFib, rate controlled|atrial fibrillation s/p cardioversion",
        story="In atrial fibrillation with RVR to the 140s on arrival.|Felt her heart racing; EKG with AF.",
        drugs="metoprolol tartrate 25 mg PO BID|diltiazem ER 120 mg PO DAILY|digoxin 0.125 mg PO DAILY|amiodarone 200 mg PO DAILY",
        course="AF: rate controlled on metoprolol, CHADS2 of 3|atrial fibrillation: RVR on day two, diltiazem drip",
        diagnosis="atrial fibrillation|afib",
    ),
    "F17210": _of(
        history="tobacco abuse|current smoker|active smoker|nicotine dependence",
        story="Smokes a pack a day.|Continues to smoke one ppd.",
        drugs="nicotine patch 21 mg TD DAILY|nicotine patch 14 mg TD DAILY",
        course="tobacco use: nicotine patch offered, cessation counseling",
        diagnosis="tobacco use|nicotine dependence",
    ),
    "Y929": _of(
        story="Slipped on ice and struck the hip.|Was in a car accident last week.|Fell from standing, place not recalled.|Twisted the ankle on a curb.",
        course="trauma: tertiary survey negative|mechanical fall: PT evaluated",
        diagnosis="mechanical fall|s/p fall",
    ),
    "Z66": _of(
        history="DNR|DNR/DNI|code status DNR, confirmed with HCP",
        story="Patient is DNR/DNI per MOLST.|Family confirmed that he would not want CPR.",
        course="goals of care: palliative care met with family, DNR/DNI|code status: DNR, ok to hospitalize|goals of care: changed to comfort measures, CMO",
        diagnosis="DNR/DNI",
    ),
    "J45909": _of(
        history="asthma|mild intermittent asthma|childhood asthma, rare inhaler use|reactive airway disease|asthma, never intubated",
        story="Used her rescue inhaler without relief.",
        drugs="albuterol inhaler 2 PUFF IH Q6H:PRN wheeze|fluticasone 110 mcg 2 PUFF IH BID|montelukast 10 mg PO DAILY",
        course="asthma: no wheeze, home inhalers continued",
        diagnosis="asthma",
    ),
    "Z7902": _of(
        history="on Plavix|on clopidogrel|on DAPT|dual antiplatelet therapy|on ticagrelor",
        story="Taking aspirin and Plavix without missed doses.",
        drugs="clopidogrel 75 mg PO DAILY|ticagrelor 90 mg PO BID|Plavix 75 mg PO DAILY|prasugrel 10 mg PO DAILY",
        course="antiplatelets: Plavix continued through the stay",
        diagnosis="on dual antiplatelet therapy",
    ),
    "J449": _of(
        history="COPD|emphysema|chronic obstructive pulmonary disease|COPD on home O2|chronic bronchitis|COPD, FEV1 45 percent",
        story="On 2L of home oxygen for COPD.|Wheezing and more sputum than usual.",
        drugs="tiotropium 1 CAP IH DAILY|Spiriva 18 mcg IH DAILY|fluticasone-salmeterol 250/50 1 INH IH BID|ipratropium-albuterol nebs Q6H",
        course="COPD: steroid taper and azithromycin|COPD: no flare, home tiotropium continued",
        diagnosis="COPD|chronic obstructive pulmonary disease",
    ),
    "D62": _of(
        story="Passed black stools and felt faint; Hgb 6.4.|Hct fell from 36 to 24 after surgery.|Lost about a liter of blood in the OR.",
        course="acute blood loss anemia: 2 units PRBC transfused|GI bleed: EGD with clipped ulcer, Hct stable after transfusion|blood loss anemia: post-op Hct 24, transfused 1 unit|ABLA: Hgb nadir 6.8, transfused",
        diagnosis="acute blood loss anemia|GI bleed|upper GI bleeding",
    ),
    "N390": _of(
        history="recurrent UTIs|frequent UTI",
        story="Burning with urination for a week.|UA was grossly positive.|Started on macrobid for a UTI by the PCP.|Urine was cloudy and foul.",
        course="UTI: ceftriaxone, culture grew E. coli|urinary tract infection: ciprofloxacin for 7 days|complicated UTI: foley changed, antibiotics narrowed",
        drugs="ciprofloxacin 500 mg PO Q12H|nitrofurantoin 100 mg PO BID|cefpodoxime 200 mg PO Q12H",
        diagnosis="urinary tract infection|UTI",
    ),
    "I129": _of(
        history="hypertensive CKD|hypertension c/b kidney disease|hypertensive nephrosclerosis|HTN and CKD|renal disease from hypertension",
        story="Sees nephrology for kidney disease from long hypertension.",
        drugs="amlodipine 10 mg PO DAILY|labetalol 200 mg PO BID|hydralazine 25 mg PO TID|lisinopril 10 mg PO DAILY",
        course="HTN: labetalol uptitrated given CKD|hypertensive CKD: avoided nephrotoxins",
        diagnosis="hypertensive chronic kidney disease|hypertension with CKD",
    ),
    "E1122": _of(
        history="diabetic nephropathy|DM2 c/b nephropathy|T2DM with CKD|diabetic kidney disease|DM2 with proteinuria|type 2 diabetes c/b nephropathy",
        story="Diabetes complicated by nephropathy and neuropathy.",
        drugs="glipizide 10 mg PO BID|insulin glargine 18 units SC QHS|calcitriol 0.25 mcg PO DAILY|linagliptin 5 mg PO DAILY",
        course="DM2 c/b nephropathy: sliding scale, A1c 8.4|diabetic nephropathy: ACE inhibitor held",
        diagnosis="diabetic nephropathy|type 2 diabetes with kidney disease",
    ),
    "E871": _of(
        story="Sodium was 121 in the ED.|Labs notable for Na 124.|Found to be hyponatremic.",
        course="hyponatremia: urine lytes c/w SIADH, fluid restriction, Na 133|hyponatremia: hypovolemic, resolved with NS|low sodium: thiazide stopped, Na improved",
        drugs="sodium chloride tablets 1 g PO TID",
        diagnosis="hyponatremia",
    ),
    "I252": _of(
        history="old MI|s/p MI|prior MI|h/o NSTEMI|myocardial infarction, remote|STEMI years ago|heart attack in the past",
        story="Had a heart attack some years ago.",
        diagnosis="history of myocardial infarction",
    ),
    "N189": _of(
        history="CKD|chronic kidney disease|CRI|chronic renal insufficiency|CKD, stage unknown|renal insufficiency",
        story="Baseline creatinine is not known.",
        drugs="sevelamer 800 mg PO TID|calcitriol 0.25 mcg PO DAILY",
        course="CKD: Cr at baseline, meds renally dosed|chronic kidney disease: stable",
        diagnosis="chronic kidney disease|CKD",
    ),
    "E872": _of(
        story="Lactate was 5.6.|VBG with pH 7.18.|Bicarb of 12 with an anion gap.",
        course="lactic acidosis: cleared with fluids|metabolic acidosis: bicarbonate given, gap closed|acidosis: non-gap, from diarrhea",
        drugs="sodium bicarbonate 650 mg PO TID",
        diagnosis="lactic acidosis|metabolic acidosis",
    ),
    "Z8673": _of(
        history="CVA|prior stroke|h/o TIA|stroke without residual deficits|TIA|s/p CVA, no deficits|old lacunar infarct",
        story="Had a small stroke years ago and recovered fully.",
        diagnosis="history of stroke",
    ),
    "Z955": _of(
        history="s/p PCI|s/p DES to LAD|s/p BMS|coronary stents|stent to RCA|CAD s/p stenting|drug eluting stent",
        story="Had two stents placed last year.",
        course="CAD s/p DES: aspirin and Plavix continued",
        diagnosis="s/p PCI with stent",
    ),
    "Z86718": _of(
        history="h/o DVT|DVT|prior DVT, IVC filter|deep vein thrombosis after surgery|clots in the leg|VTE",
        story="Had a clot in the leg after a long flight years ago.",
        diagnosis="history of DVT",
    ),
    "G8929": _of(
        history="chronic pain|chronic back pain on opioids|chronic low back pain|chronic pain syndrome|narcotics contract",
        story="Takes oxycodone for her chronic back pain.",
        drugs="oxycodone 10 mg PO Q6H:PRN pain|gabapentin 300 mg PO TID|MS Contin 30 mg PO Q12H|methadone 10 mg PO TID|lidocaine patch 5% TD DAILY",
        course="chronic pain: home regimen continued, pain service saw patient",
        diagnosis="chronic pain",
    ),
    "I110": _of(
        history="CHF|HTN with heart failure|hypertensive heart disease|CHF, EF 35 percent|systolic heart failure|cardiomyopathy and HTN",
        story="Legs swollen to the knees and ten pounds over dry weight.|Two pillow orthopnea and PND.",
        drugs="furosemide 40 mg PO DAILY|carvedilol 12.5 mg PO BID|spironolactone 25 mg PO DAILY|torsemide 20 mg PO DAILY",
        course="CHF: diuresed with IV Lasix, net negative 5L|heart failure: TTE with EF 35, Lasix drip",
        diagnosis="congestive heart failure|acute on chronic heart failure",
    ),
    "K5900": _of(
        history="constipation|chronic constipation|slow transit constipation",
        story="Last bowel movement was six days ago.|KUB with stool throughout the colon.",
        drugs="polyethylene glycol 17 g PO DAILY|lactulose 30 mL PO BID|bisacodyl 10 mg PR DAILY:PRN constipation|senna 8.6 mg PO BID",
        course="constipation: aggressive bowel regimen with result|constipation: manually disimpacted, then enema",
        diagnosis="constipation",
    ),
    "N400": _of(
        history="BPH|enlarged prostate|benign prostatic hypertrophy|BPH s/p TURP|prostatism",
        story="Weak stream and gets up four times a night.",
        drugs="tamsulosin 0.4 mg PO QHS|finasteride 5 mg PO DAILY|Flomax 0.4 mg PO QHS|terazosin 5 mg PO QHS",
        course="BPH: tamsulosin continued, voided after foley removal",
        diagnosis="benign prostatic hypertrophy|BPH",
    ),
    "N183": _of(
        history="CKD stage 3|stage III CKD|CKD III (baseline Cr 1.6)|CKD3|chronic kidney disease stage 3|CKD, baseline creatinine 1.7",
        story="Baseline creatinine is 1.6, stage 3.",
        drugs="calcitriol 0.25 mcg PO DAILY|sodium bicarbonate 650 mg PO BID",
        course="CKD stage III: Cr at baseline 1.6|CKD stage 3: contrast avoided",
        diagnosis="CKD stage 3|chronic kidney disease stage III",
    ),
    "I480": _of(
        history="paroxysmal AF|PAF|pAF|paroxysmal atrial fibrillation|intermittent afib|AF, in sinus now|paroxysmal afib s/p ablation",
        story="In sinus on arrival, brief AF on telemetry.",
        drugs="metoprolol tartrate 25 mg PO BID|sotalol 80 mg PO BID|flecainide 50 mg PO Q12H|amiodarone 200 mg PO DAILY",
        course="paroxysmal AF: in sinus rhythm throughout|PAF: brief run of RVR, metoprolol",
        diagnosis="paroxysmal atrial fibrillation|PAF",
    ),
    "I130": _of(
        history="CHF and CKD|cardiorenal syndrome|HTN with CHF and CKD|heart failure, kidney disease|hypertension c/b CHF and CKD",
        story="More swollen and weaker; Cr rose with outpatient diuresis.|Dyspnea at rest, known cardiorenal disease.",
        drugs="torsemide 40 mg PO BID|metolazone 2.5 mg PO PRN weight gain|hydralazine 50 mg PO TID|bumetanide 2 mg PO BID",
        course="cardiorenal: Lasix drip with renal following|CHF: diuresis limited by CKD, torsemide at discharge",
        diagnosis="heart failure with CKD|cardiorenal syndrome",
    ),
    "G4700": _of(
        history="insomnia|poor sleep on trazodone|chronic insomnia|sleeplessness",
        story="Sleeps three hours a night.",
        drugs="trazodone 50 mg PO QHS:PRN insomnia|zolpidem 5 mg PO QHS|ramelteon 8 mg PO QHS|melatonin 3 mg PO QHS",
        course="insomnia: trazodone at night",
        diagnosis="insomnia",
    ),
    "D696": _of(
        history="thrombocytopenia|low platelets|chronic thrombocytopenia|ITP",
        story="Platelets were 68 on arrival.",
        course="thrombocytopenia: plt nadir 52, HIT antibody negative|low platelets: subcutaneous heparin held, smear reviewed",
        diagnosis="thrombocytopenia",
    ),
    "Z951": _of(
        history="s/p CABG|CABG x3|coronary artery bypass|bypass surgery|CABG with LIMA to LAD|three vessel CAD s/p CABG|open heart surgery",
        story="Has had a bypass operation.",
        diagnosis="s/p CABG",
    ),
    "M109": _of(
        history="gout|gouty arthritis|gout flares|podagra|gout on allopurinol",
        story="Great toe became red and hot two days ago.",
        drugs="allopurinol 100 mg PO DAILY|allopurinol 300 mg PO DAILY|colchicine 0.6 mg PO DAILY|febuxostat 40 mg PO DAILY",
        course="gout: flare in the knee, prednisone for 5 days|gout: renally dosed allopurinol continued",
        diagnosis="gout",
    ),
    "Y92239": _of(
        course="hospital course complicated by a reaction to contrast|drug rash: developed after antibiotics on the ward|phlebitis: at the IV site|post-procedure hematoma: watched, stable|line infection: PICC removed",
        diagnosis="adverse effect of hospital treatment|drug rash",
    ),
    "J9601": _of(
        story="Saturating 82 percent on room air, placed on a nonrebreather.|Intubated in the ED for hypoxia.|Needed BiPAP in the ED.|Hypoxic to the 70s on arrival.",
        course="hypoxemic respiratory failure: weaned from 6L to room air|acute respiratory failure: intubated, extubated on day three|hypoxia: high flow, then nasal cannula",
        diagnosis="hypoxic respiratory failure|acute respiratory failure",
    ),
    "J189": _of(
        story="Fever, cough and green sputum for four days.|CXR with a right lower lobe opacity.|Given levofloxacin for pneumonia.",
        course="pneumonia: ceftriaxone and azithromycin, then levofloxacin|CAP: levofloxacin for 7 days|HCAP: vancomycin and cefepime, narrowed",
        drugs="levofloxacin 750 mg PO DAILY|azithromycin 250 mg PO DAILY",
        diagnosis="pneumonia|community acquired pneumonia",
    ),
    "Z23": _of(
        course="vaccines: influenza vaccine given before discharge|health maintenance: Pneumovax given|immunization: flu shot given",
        drugs="influenza vaccine 0.5 mL IM ONCE|pneumococcal vaccine 0.5 mL IM ONCE",
        diagnosis="immunization given",
    ),
    "Y92230": _of(
        course="inpatient fall: fell beside the bed, CT head negative|fall in room: no injury, bed alarm|delirium: pulled his line in the room overnight|medication error: in the room, no harm",
        diagnosis="fall in hospital",
    ),
    "I5032": _of(
        history="HFpEF|diastolic CHF|dCHF|diastolic heart failure|heart failure with preserved EF|diastolic dysfunction",
        story="EF was 60 percent on the last echo.",
        drugs="furosemide 20 mg PO DAILY|torsemide 20 mg PO DAILY|Lasix 40 mg PO BID",
        course="HFpEF: euvolemic, home torsemide|diastolic heart failure: TTE with EF 65, diuresed",
        diagnosis="chronic diastolic heart failure|HFpEF",
    ),
}  # fmt: skip

# Conditions that relatives have and that patients deny: a mention that is no evidence.
RELATIVES_HAVE = {
    "I2510": "CAD|heart disease|coronary disease|bypass surgery",
    "I252": "MI|heart attack|myocardial infarction at 55",
    "E119": "diabetes|DM2|type 2 diabetes",
    "I10": "HTN|hypertension|high blood pressure",
    "E785": "high cholesterol|hyperlipidemia",
    "Z8673": "stroke|CVA",
    "Z86718": "DVT|blood clots",
    "J45909": "asthma",
    "J449": "COPD|emphysema",
    "F329": "depression",
    "E039": "hypothyroidism",
    "M109": "gout",
    "I4891": "atrial fibrillation|AF",
}
PATIENTS_DENY = {
    "E119": "diabetes|DM",
    "I2510": "CAD|coronary disease",
    "Z86718": "DVT|PE or DVT|clots",
    "J45909": "asthma",
    "J449": "COPD",
    "K219": "reflux|heartburn",
    "K5900": "constipation",
    "N390": "dysuria|UTI symptoms",
    "F329": "depression",
    "F419": "anxiety",
    "I252": "prior MI",
    "Z8673": "stroke or TIA",
    "D62": "melena or hematochezia",
    "Z7901": "blood thinners",
    "G4733": "sleep apnea",
}
