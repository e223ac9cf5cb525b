"""Audit the frozen model before a search: which layer holds accent, and how much speaker with it.

python -m tune_accent.audit configs/demo.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_accent.base.entry import INTERRUPTED, guarded, same_command

if TYPE_CHECKING:
    from tune_accent.auditing.run import Request

RESULTS = Path("ray_results")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="experiment config, such as configs/demo.yaml")],
    out: Annotated[Path | None, typer.Option(help="folder of the audit; default: ray_results/<name>-audit")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="move an existing folder of the audit aside and start over")] = False,
) -> None:
    """Measure accent and speaker leakage of every layer of the frozen model. The same command again continues an interrupted audit."""
    with guarded():
        from tune_accent.config.load import load_experiment

        experiment = load_experiment(config).experiment

        from tune_accent.auditing.run import Request

        request = Request(experiment, out or RESULTS / f"{experiment.name}-audit", fresh)
        arguments = sys.argv[2:] if context.parent else sys.argv[1:]
        _audit(request, str(config), same_command("tune_accent.audit", arguments))


def _audit(request: Request, config: str, again: str) -> None:
    from tune_accent.auditing.report import write_report
    from tune_accent.auditing.results import records
    from tune_accent.auditing.run import run_audit
    from tune_accent.auditing.words import closing_words

    try:
        audit = run_audit(request)
        write_report(audit)
    except KeyboardInterrupt:
        done = f"{records(request.root)} records and all features that were extracted are kept"
        sys.stderr.write(f"\ninterrupted; {done}. To continue:\n  {again}\n")
        raise SystemExit(INTERRUPTED) from None
    sys.stdout.write(closing_words(audit, config))


if __name__ == "__main__":
    app()
