"""What keeps the figures of an experiment from saying anything about people."""

from __future__ import annotations

from tune_accent.config.schema import Experiment


def demo_note(experiment: Experiment) -> str | None:
    """One sentence; None where speech and weights are real, as far as the config tells."""
    facts = {
        "the voices are synthetic": experiment.data.source.kind == "demo",
        "the model has random weights": experiment.model.backbone == "tiny",
    }
    told = " and ".join(words for words, so in facts.items() if so)
    return f"{told[0].upper()}{told[1:]}: these numbers show that the method runs, nothing about people." if told else None
