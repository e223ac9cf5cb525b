"""Every command under one name.

tune-accent search search_spaces/lora.yaml
"""

from __future__ import annotations

import typer

from tune_accent import audit, compare, doctor, prepare, report, rerun, search, synthesize, trial

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
app.command("search")(search.main)
app.command("prepare")(prepare.main)
app.command("audit")(audit.main)
app.command("doctor")(doctor.main)
app.command("rerun")(rerun.main)
app.command("compare")(compare.main)
app.command("report")(report.main)
app.command("synthesize")(synthesize.main)
app.command("trial", context_settings=trial.ANY_PARAMETER)(trial.main)


@app.callback()
def main() -> None:
    """Hyperparameter search for accent-controlled speech: LoRA on Qwen3-TTS that moves the accent and leaves the speaker alone."""


if __name__ == "__main__":
    app(prog_name="tune-accent")
