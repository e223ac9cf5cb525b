"""Accent and speaker leakage of a representation; arrays in, figures out, no torch.

>>> from tune_accent.evaluation import Protocol, evaluate
>>> evaluate(z, table, Protocol(), seed=0).to_dict()  # doctest: +SKIP
"""

from tune_accent.evaluation.comparison import COMPARABLE, hierarchical_interval, paired_difference, replicates
from tune_accent.evaluation.controls import InputComparison, Sweep, c_sweep, compare_inputs
from tune_accent.evaluation.evaluate import evaluate
from tune_accent.evaluation.figures import AccentDetail, Evaluation, Figure, SecondaryDetail, Speakers, Used
from tune_accent.evaluation.gate import Verdict, verdict
from tune_accent.evaluation.multiplicity import ExpectedMaximum, null_of_best
from tune_accent.evaluation.protocol import PROTOCOL_VERSION, Protocol
from tune_accent.evaluation.score import Feasibility, feasible, score
from tune_accent.evaluation.selectivity import Selective, Selectivity, selectivity
from tune_accent.evaluation.text_baseline import TextBaseline, text_baseline
from tune_accent.evaluation.voice_accent import VoiceAccent, voice_accent

__all__ = [
    "COMPARABLE",
    "PROTOCOL_VERSION",
    "AccentDetail",
    "Evaluation",
    "ExpectedMaximum",
    "Feasibility",
    "Figure",
    "InputComparison",
    "Protocol",
    "SecondaryDetail",
    "Selective",
    "Selectivity",
    "Speakers",
    "Sweep",
    "TextBaseline",
    "Used",
    "Verdict",
    "VoiceAccent",
    "c_sweep",
    "compare_inputs",
    "evaluate",
    "feasible",
    "hierarchical_interval",
    "null_of_best",
    "paired_difference",
    "replicates",
    "score",
    "selectivity",
    "text_baseline",
    "verdict",
    "voice_accent",
]
