"""Is everything ready for this experiment? Checks machine, weights, data and disk, trains two steps, and says what a search will take.

python -m tune_accent.doctor configs/qwen3_tts_0.6b.yaml

Exit code 0: nothing failed; 1: a check failed; 2: no such config, or a mistake in it.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_accent.base.entry import FAILED, guarded

if TYPE_CHECKING:
    from tune_accent.config.schema import Experiment

RESULTS = Path("ray_results")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="experiment config, such as configs/qwen3_tts_0.6b.yaml")],
    list_layers: Annotated[
        bool, typer.Option("--list-layers", help="print the names that audit.layers can take, and stop")
    ] = False,
    results: Annotated[Path, typer.Option(help="folder that will hold the results")] = RESULTS,
) -> None:
    """Check versions, GPU, weights, codec, tokenizer, data and disk; train two steps, evaluate once; estimate a trial and a search."""
    with guarded():
        from tune_accent.config.load import load_experiment

        experiment = load_experiment(config).experiment
        if list_layers:
            from tune_accent.checking.examine import layers_of

            sys.stdout.write("\n".join(layers_of(experiment)) + "\n")
        else:
            _examine(experiment, config, results)


def _examine(experiment: Experiment, config: Path, results: Path) -> None:
    from tune_accent.checking.examine import Examination
    from tune_accent.checking.words import Shown, closing_words

    logging.getLogger("tune_accent").addHandler(logging.NullHandler())  # what goes wrong is said by the findings
    shown, found = Shown(), []
    for one in Examination(experiment, config, results).findings():
        found.append(one)
        shown.show(one)
    sys.stdout.write(closing_words(found, str(config)))
    sys.stdout.flush()
    for one in found:
        if one.trace:
            sys.stderr.write(f"\n{one.name}:\n{one.trace}")
    if any(one.status == "failed" for one in found):
        raise SystemExit(FAILED)


if __name__ == "__main__":
    app()
