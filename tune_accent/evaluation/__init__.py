"""Accent and speaker leakage of a representation; arrays in, figures out, no torch.

>>> from tune_accent.evaluation import Protocol, evaluate
>>> evaluate(z, table, Protocol(), seed=0).to_dict()  # doctest: +SKIP
"""

from tune_accent.evaluation.evaluate import evaluate
from tune_accent.evaluation.figures import AccentDetail, Evaluation, Figure, Used
from tune_accent.evaluation.gate import Verdict, verdict
from tune_accent.evaluation.protocol import PROTOCOL_VERSION, Protocol
from tune_accent.evaluation.score import Feasibility, feasible, score

__all__ = [
    "PROTOCOL_VERSION",
    "AccentDetail",
    "Evaluation",
    "Feasibility",
    "Figure",
    "Protocol",
    "Used",
    "Verdict",
    "evaluate",
    "feasible",
    "score",
    "verdict",
]
