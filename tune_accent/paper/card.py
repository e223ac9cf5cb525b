"""The model card of `paper/adapter/`: README.md with a head that the Hugging Face Hub reads. No paths of this machine, no keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tune_accent.base.hub import is_hub_id
from tune_accent.paper.arms import Measured, measure
from tune_accent.paper.report_words import (
    backbone_name,
    control_words,
    data_name,
    licence_notes,
    limits,
    verdict_words,
)
from tune_accent.paper.result_tables import MAIN, main_table
from tune_accent.paper.results import PaperResults
from tune_accent.reporting.tables import escape_markdown, sheet_markdown
from tune_accent.tuning.results import resolved_values

LOADING = """\
```python
from peft import PeftModel

model = PeftModel.from_pretrained(talker, "adapter")  # the talker of the base checkpoint with LoRA; A is not in PEFT's files
```

With the accent, which is added where training adds it:

```
python -m tune_accent.synthesize --adapter adapter --text "..." --speaker-wav reference.wav --accent {accent} --out speech.wav
```

`heads.safetensors` holds the accent table (`table.weight`; its metadata `accents` names the rows) and the heads that measured; `base.json` says which
backbone the adapter belongs to, by fingerprint.
"""


def model_card(results: PaperResults) -> str:
    """The card as Markdown, with its YAML head."""
    measured = measure(results)
    head = yaml.safe_dump(_head(measured), sort_keys=False, allow_unicode=True)
    sections = {
        "Intended use": _bullets(_use(measured)),
        "How to load": LOADING.format(accent=_accent(measured)),
        "Training": _bullets(_training(measured)),
        "Figures on test speakers": f"{escape_markdown(verdict_words(results.verdict))}\n\n{sheet_markdown(main_table(measured))}",
        "Does A control the accent of generated speech?": _bullets(control_words(results.control)),
        "Limits": _bullets(limits(measured)),
        "Licences": _bullets(licence_notes(results.experiment)),
    }
    body = "".join(f"\n## {name}\n\n{text}" for name, text in sections.items())
    return f"---\n{head}---\n\n# {escape_markdown(results.name)}: accent adapter\n{body}"


def _head(measured: Measured) -> dict[str, Any]:
    spec = measured.results.experiment
    base = {"base_model": spec.model.backbone} if is_hub_id(spec.model.backbone) else {}
    figures = measured.winner.figures["neutral"]
    metrics = [
        {"type": name, "name": f"{name} (test speakers, mean over {len(over.values)} seeds)", "value": over.figure.value}
        for name, over in ((name, figures[name]) for name in MAIN)
        if over.figure.value is not None
    ]
    data = data_name(spec)
    result = {"task": {"type": "text-to-speech"}, "dataset": {"name": data, "type": data, "split": "test"}, "metrics": metrics}
    tags = ["text-to-speech", "accent", "lora", "tune_accent"]
    index = [{"name": measured.results.name, "results": [result]}]
    return {"library_name": "peft", "pipeline_tag": "text-to-speech", **base, "tags": tags, "model-index": index}


def _use(measured: Measured) -> Iterator[str]:
    spec = measured.results.experiment
    yield "Research on setting the regional accent of synthetic speech without changing whose voice it is: Audio = TTS(text, S = speaker, A = accent)."
    if spec.model.backbone == "tiny":
        yield "This one is a demonstration of the method: with a random-weight backbone it speaks no language, and serves no other use."
    yield "Not for imitating a person without consent, and not for telling where a person comes from."


def _training(measured: Measured) -> Iterator[str]:
    results, spec = measured.results, measured.results.experiment
    rank, alpha, lr, weight = resolved_values(spec, measured.winner.arm.params)
    yield f"Backbone {backbone_name(spec)}, frozen; LoRA rank {rank}, alpha {alpha:g}, on {', '.join(spec.model.lora.target)}; learning rate {lr:.6g}, leakage weight {weight:g}."
    yield f"Data {data_name(spec)} (source {spec.data.source.kind}); accents {', '.join(_accents(measured)) or 'not recorded'}."
    yield f"{spec.training.epochs} epochs; experiment seed {spec.seed}. The adapter is that of the first new seed, chosen beforehand; the figures are means over seeds."
    yield f"Chosen among {len(results.search)} trials: {measured.winner.arm.note}."


def _accents(measured: Measured) -> tuple[str, ...]:
    return measured.winner.runs[0].neutral.gate_accents if measured.winner.runs else ()


def _accent(measured: Measured) -> str:
    """An accent for the example, as a shell takes it."""
    import shlex

    return shlex.quote(next(iter(_accents(measured)), "ACCENT"))


def _bullets(texts: Any) -> str:
    return "".join(f"- {escape_markdown(text)}\n" for text in texts)
