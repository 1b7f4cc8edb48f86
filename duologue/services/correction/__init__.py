"""Correction of transcripts by a vocabulary."""

from __future__ import annotations

from .correction import Correction as Correction
from .corrector import Corrected as Corrected
from .corrector import Corrector as Corrector
from .vocabulary import Term as Term
from .vocabulary import Vocabulary as Vocabulary
