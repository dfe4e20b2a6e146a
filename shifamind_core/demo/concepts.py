"""The 113 concepts: a concept is present in a note if one of its words stands in the note, in any casing."""

# name, or name=other forms separated by commas
_TABLE = """
hypertension=htn|hyperlipidemia=hld, dyslipidemia, cholesterol|diabetes=dm2, t2dm|insulin=lantus, humalog|coronary disease=cad, coronary
heart failure=chf, hfpef|atrial fibrillation=afib, paroxysmal af|myocardial infarction=nstemi, stemi, heart attack|stent=des to, bms, s/p pci
bypass=cabg|kidney disease=ckd, nephropathy|kidney injury=aki, acute renal failure|dialysis=nephrology, renal following|creatinine=creat-|stroke=cva, tia
deep vein thrombosis=dvt, clots|anticoagulation=warfarin, apixaban, rivaroxaban, coumadin|antiplatelet=plavix, clopidogrel|aspirin|statin=atorvastatin, simvastatin, pravastatin
beta blocker=metoprolol, carvedilol, labetalol|diuretic=furosemide, lasix, torsemide|calcium channel blocker=amlodipine, diltiazem|ace inhibitor=lisinopril
reflux=gerd, heartburn|proton pump inhibitor=omeprazole, pantoprazole|depression=depressive, mdd|antidepressant=sertraline, citalopram, fluoxetine|anxiety=anxious/panic
benzodiazepine=lorazepam, clonazepam, alprazolam|insomnia=trazodone, sleepless|hypothyroidism=hypothyroid, tsh|levothyroxine=synthroid|obesity=obese, bmi
sleep apnea=osa|cpap=bipap|asthma=reactive airway|bronchodilator=albuterol, tiotropium, ipratropium|copd=emphysema, chronic bronchitis
pneumonia=hcap, opacity|respiratory failure=intubated, hypoxic|hypoxia=nonrebreather, high flow|oxygen=o2|anemia=anemic|bleeding=gi bleed, melena, black stools
transfusion=transfused, prbc|iron=ferrous|thrombocytopenia=low platelets|platelets=plt|hyponatremia=low sodium|sodium=na-|acidosis=lactate, bicarb
urinary tract infection=uti, dysuria|urine culture=ua was, foley|antibiotics=ceftriaxone, ciprofloxacin, vancomycin|prostate=bph|tamsulosin=flomax, finasteride
gout=podagra|allopurinol=colchicine|constipation=bowel regimen|laxative=senna, polyethylene, lactulose|chronic pain=back pain|opioid=oxycodone, morphine, methadone
gabapentin|tobacco=smoke, smoking|nicotine|alcohol=wine|fall=fell|fracture=hip|surgery=s/p|vaccine=flu shot, pneumovax
code status=dnr, full code|palliative=comfort measures|fever=febrile|chills|cough=sputum|dyspnea=short of breath, breathing|chest pain=angina|palpitations=heart racing
edema=swollen|nausea=vomiting|abdominal pain|diarrhea|headache|syncope=lightheaded|weakness=fatigue|confusion=altered mental, delirium|weight loss=lost some weight
wheezing=wheeze|crackles=rales|murmur|tenderness|rash|wound=staples|ecg=ekg|echocardiogram=tte|chest radiograph=cxr, chest x-ray|ct scan=ct head, ct abd
ultrasound=renal us|white count=wbc|glucose|hemoglobin=hgb|inr|troponin|blood culture|physical therapy=pt recommended, pt evaluated|nursing home=extended care, skilled
social support=spouse, daughter|osteoarthritis=arthritis|cancer=lymphoma|dementia=parkinson|seizure|steroid=prednisone
"""
CONCEPTS: dict[str, tuple[str, ...]] = {}
for _entry in _TABLE.strip().replace("\n", "|").split("|"):
    _name, _, _forms = _entry.partition("=")
    CONCEPTS[_name] = (_name, *filter(None, _forms.split(", ")))


def concepts_in(text: str) -> list[int]:
    """One 0 or 1 a concept, in the order of `CONCEPTS`."""
    lowered = text.lower()
    return [int(any(form in lowered for form in forms)) for forms in CONCEPTS.values()]
