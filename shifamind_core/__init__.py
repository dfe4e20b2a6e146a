"""Why does the same checkpoint score differently elsewhere? The Python core of the dashboard.

Rooms, in the order in which data passes through them: `artifacts` (untrusted files in), `model`,
`precision`, `inference`, `runs` (results and their provenance), `analysis` and `diagnosis` (NumPy only), `experiments`,
`replay`, `figures`, `report`. Imports point one way only; `tests/test_house.py` holds them to it.
"""

__version__ = "0.1.0"
