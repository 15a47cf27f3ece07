"""Fitted estimators as files of arrays and JSON: nothing in them is code, or names what to import.

`container` is the file, `values` what parameters are written as, `networks` what modules are;
`records` writes estimators and `restored` reads them.
"""

from fastbp.estimators.saving.records import save
from fastbp.estimators.saving.restored import load

__all__ = ["load", "save"]
