"""The rest of a note: everything that is no evidence for one of the 50 codes. Written for this demo."""

COMPLAINTS = (
    "chest pain|dyspnea|abdominal pain|fever|weakness|altered mental status|fall|nausea and vomiting|syncope|"
    "lower extremity edema|back pain|headache|lightheadedness|hip fracture|cellulitis|palpitations|cough|"
    "black stools|dysuria|elective surgery|leg pain|diarrhea|seizure|failure to thrive|flank pain"
).split("|")
PROCEDURES = (
    "none|none|none|none|right hip hemiarthroplasty|EGD|colonoscopy|laparoscopic cholecystectomy|cardiac catheterization|"
    "bronchoscopy|central line placement|PICC placement|thoracentesis|left total knee arthroplasty|lumbar puncture|"
    "incision and drainage|exploratory laparotomy|ERCP with stent"
).split("|")
SERVICES = "MEDICINE|SURGERY|CARDIOLOGY|ORTHOPAEDICS|NEUROLOGY|MEDICINE|MEDICINE|UROLOGY|CARDIAC SURGERY".split("|")
ALLERGIES = (
    "No known allergies|penicillins|sulfa|codeine|Bactrim / shellfish|morphine|latex|lisinopril|"
    "NKDA|iodine containing contrast|ciprofloxacin|No known adverse drug reactions"
).split("|")

STORY = (
    "Symptoms began {n} days ago and slowly got worse.|The patient was in the usual state of health until {n} days before admission.|"
    "Initially went to an outside hospital, where imaging was done and transfer was arranged.|Called the PCP, who advised coming to the ED.|"
    "In the ED, initial vitals were: T {t} HR {h} BP {b} RR {r} O2 {s}% RA.|EKG showed sinus rhythm without ST changes.|"
    "CXR was without acute process.|CT abdomen and pelvis was unremarkable.|Received 1L NS and acetaminophen.|"
    "Denies fevers, chills or sick contacts.|Endorses fatigue and poor appetite.|No recent travel.|On the floor, the patient is comfortable.|"
    "ROS: otherwise negative in detail.|Labs were drawn and were notable for WBC {w}.|The family brought the patient in because of confusion.|"
    "Pain is rated {p}/10, worse with movement.|Has lost some weight over the last months.|Lives at ___ and was sent in by the nursing staff.|"
    "No chest pain, no dyspnea, no cough.|Was last seen in clinic ___ with the same complaint.|Blood cultures were sent.|"
    "Given one dose of vancomycin and zosyn.|Troponin was negative twice.|A foley catheter was placed.|Transferred to the floor for further care."
).split("|")
OTHER_HISTORY = (
    "osteoarthritis|s/p cholecystectomy|s/p appendectomy|glaucoma|migraines|osteoporosis|s/p hysterectomy|cataracts|diverticulosis|"
    "psoriasis|colon polyps|nephrolithiasis|breast cancer s/p lumpectomy|prostate cancer|hearing loss|carpal tunnel syndrome|vertigo|"
    "peripheral neuropathy|hepatitis C|cirrhosis|PVD|aortic stenosis|seizure disorder|rheumatoid arthritis|lupus|IBS|Crohn disease|"
    "spinal stenosis|macular degeneration|restless legs|vitamin D deficiency|alcohol abuse|bipolar disorder|pulmonary nodule|"
    "uterine fibroids|s/p hernia repair|s/p right TKR|anal fissure|AAA|dementia|Parkinson disease|tremor|MGUS|lymphoma, in remission"
).split("|")
OTHER_DRUGS = (
    "multivitamin 1 TAB PO DAILY|vitamin D 1000 UNIT PO DAILY|acetaminophen 650 mg PO Q6H:PRN pain|docusate sodium 100 mg PO BID|"
    "calcium carbonate 500 mg PO TID|folic acid 1 mg PO DAILY|ondansetron 4 mg PO Q8H:PRN nausea|aspirin 81 mg PO DAILY|"
    "ibuprofen 400 mg PO Q8H:PRN pain|fish oil 1000 mg PO BID|senna 8.6 mg PO BID:PRN|prednisone 5 mg PO DAILY|heparin 5000 UNIT SC TID|"
    "thiamine 100 mg PO DAILY|levetiracetam 500 mg PO BID|latanoprost 0.005% OPHT QHS|loratadine 10 mg PO DAILY|potassium chloride 20 mEq PO DAILY|"
    "oxycodone 5 mg PO Q4H:PRN pain|artificial tears 1 DROP BOTH EYES PRN|magnesium oxide 400 mg PO DAILY|quetiapine 25 mg PO QHS|"
    "cephalexin 500 mg PO Q6H|metronidazole 500 mg PO Q8H|tramadol 50 mg PO Q6H:PRN pain|omeprazole 20 mg PO DAILY"
).split("|")
SOCIAL = (
    "Lives with spouse.|Lives alone in an apartment.|Retired teacher.|Worked as an electrician.|Two grown children nearby.|"
    "No illicit drugs.|Drinks a glass of wine on weekends.|Denies alcohol.|Walks with a cane.|Independent in ADLs.|Resident of a nursing home.|"
    "Divorced, lives with a daughter.|Came to this country from ___.|Uses a walker at baseline.|Past IV drug use, none for years."
).split("|")
NEVER_SMOKED = "Never smoked.|No tobacco.|Denies smoking.|Tobacco: never.".split("|")
RELATIVES = "Mother|Father|Brother|Sister|Maternal grandmother|Paternal uncle".split("|")
OTHER_FAMILY = (
    "breast cancer|colon cancer|dementia|lung cancer|kidney stones|rheumatoid arthritis|alcoholism|nothing known"
).split("|")
EXAM = (
    "VS: T {t} BP {b} HR {h} RR {r} SpO2 {s}% RA",
    "GENERAL: pleasant, in no acute distress|GENERAL: tired appearing, oriented x3|Gen: NAD, lying in bed|GENERAL: thin, in mild distress",
    "HEENT: sclerae anicteric, MMM, oropharynx clear|HEENT: NCAT, PERRL, EOMI|HEENT: dry mucous membranes, no icterus",
    "NECK: supple, no LAD, JVP flat|NECK: JVP to the jaw|Neck: no carotid bruits, no thyromegaly",
    "CARDIAC: RRR, normal S1 and S2, no murmurs|CV: regular, {p}/6 systolic murmur at the base|CARDIAC: irregularly irregular, no gallop|HEART: distant, regular",
    "LUNGS: clear bilaterally, no wheezes or rales|LUNGS: crackles at both bases|Pulm: decreased sounds on the right|RESP: faint expiratory wheeze",
    "ABDOMEN: soft, nontender, nondistended, bowel sounds present|ABD: obese, soft, mild RLQ tenderness without guarding|ABDOMEN: soft, distended, tympanitic",
    "GU: foley in place|GU: deferred|BACK: no CVA tenderness",
    "EXTREMITIES: warm, no edema|EXT: 1+ pitting edema to the shins|EXTREMITIES: well perfused, chronic venous changes|Ext: no clubbing or cyanosis",
    "NEURO: CN II-XII intact, strength 5/5 throughout|NEURO: A&Ox3, moving all extremities|Neuro: slow gait, no focal deficit",
    "SKIN: no rash|SKIN: scattered ecchymoses|Skin: warm, intact, healed scar",
)
IMAGING = (
    "CXR: no acute cardiopulmonary process.|CHEST X-RAY: mild pulmonary vascular congestion, small effusions.|CT HEAD: no acute intracranial hemorrhage.|"
    "TTE: mild LVH, EF {e} percent, no significant valve disease.|RENAL US: no hydronephrosis.|CT ABD/PELVIS: diverticulosis without diverticulitis.|"
    "EKG: normal sinus rhythm, rate {h}, no ischemic changes.|LENIS: no deep vein thrombosis.|MRI SPINE: multilevel degenerative change.|"
    "URINE CULTURE: no growth.|BLOOD CULTURE: no growth to date.|CXR: low lung volumes, atelectasis at the left base.|KUB: nonobstructive gas pattern."
).split("|")
COURSE_OPENING = (
    "This is a ___ year old {who} admitted with {complaint}.|___ yo {who} who presented with {complaint}, treated as below.|"
    "Brief summary: {who} with {complaint}, discharged in stable condition."
).split("|")
OTHER_COURSE = (
    "pain: controlled with acetaminophen and low dose oxycodone|nutrition: regular diet, tolerated well|dispo: PT recommended home with services|"
    "leukocytosis: resolved, no source found|electrolytes: repleted daily|delirium: resolved with sleep and removal of lines|"
    "nausea: improved with ondansetron|FEN: IVF as needed, replete lytes, regular diet|PPX: subcutaneous heparin, bowel regimen|"
    "access: peripheral IV|transaminitis: mild, statin unchanged, LFTs to be repeated|cellulitis: vancomycin, then cephalexin for 7 days|"
    "wound: clean and dry, staples to be removed in 10 days|lung nodule: repeat CT in six months|code: full, presumed|contact: daughter ___"
).split("|")
TRANSITION = (
    "repeat CBC in one week|follow up pending cultures|titrate blood pressure medications|check chemistry at the first visit|"
    "repeat chest imaging in 6 weeks|consider outpatient colonoscopy|discuss goals of care with family"
).split("|")
DISPOSITIONS = "Home|Home With Service|Extended Care|Home|Rehab|Skilled Nursing Facility|Expired".split("|")
CONDITION = (
    "Mental Status: Clear and coherent.|Mental Status: Confused - sometimes.|Level of Consciousness: Alert and interactive.|"
    "Activity Status: Ambulatory - Independent.|Activity Status: Out of Bed with assistance to chair or wheelchair."
).split("|")
INSTRUCTIONS = (
    "You were admitted because of {complaint}.|It was a pleasure to take care of you.|We gave you fluids and watched your blood tests.|"
    "Please take your medicines as listed.|Weigh yourself every morning and call if you gain more than three pounds.|"
    "Call your doctor for fever, chills, chest pain or trouble breathing.|Please do not drive while taking pain medicine.|"
    "Your wound should stay dry for two days.|You can shower but should not take baths.|Keep all of your appointments.|"
    "You had a scan that did not show anything dangerous.|We changed one of your medicines; the new list is below.|"
    "Please drink enough water.|We wish you all the best."
).split("|")
