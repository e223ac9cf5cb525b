"""Make a corpus that can be searched out of what you have.

python -m tune_accent.prepare coraa-mupe --from shards/ --out data/coraa
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_accent.base.entry import INTERRUPTED, guarded, same_command
from tune_accent.base.errors import ConfigError, UserError

if TYPE_CHECKING:
    from tune_accent.config.schema import Experiment

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Kind(StrEnum):
    """Sources."""

    demo = "demo"
    csv = "csv"
    coraa_mupe = "coraa-mupe"


@app.command()
def main(
    context: typer.Context,
    source: Annotated[Kind, typer.Argument(help="what kind of corpus it is")],
    where: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="demo: EN3 or PT2; csv: folder or ZIP; coraa-mupe: folder of parquet shards, glob, or Hub id",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the corpus; default: data.root of the config")] = None,
    config: Annotated[
        Path | None, typer.Option(help="experiment config: its section `data`, and the cache that its model needs")
    ] = None,
    regions: Annotated[str | None, typer.Option(help="coraa-mupe: of N,NE,CO,SE,S; default: all")] = None,
    max_speakers_per_region: Annotated[int | None, typer.Option(help="coraa-mupe: draw so many; default: all")] = None,
    max_utterances_per_speaker: Annotated[int | None, typer.Option(help="coraa-mupe: draw so many; default: all")] = None,
    min_speakers: Annotated[int | None, typer.Option(help="coraa-mupe: of a region; default: 3")] = None,
    min_utterances: Annotated[int | None, typer.Option(help="coraa-mupe: of a speaker; default: 3")] = None,
    audio_quality: Annotated[str | None, typer.Option(help="coraa-mupe: only rows of this quality; default: all")] = None,
    check: Annotated[bool, typer.Option("--check", help="compare what is in --out with its checksums, and stop")] = False,
) -> None:
    """Turn SOURCE into a checked corpus with splits, confounds and census. The same command again continues an interrupted import."""
    with guarded():
        options = {
            "regions": None if regions is None else tuple(regions.upper().replace(",", " ").split()),
            "max_speakers_per_region": max_speakers_per_region,
            "max_utterances_per_speaker": max_utterances_per_speaker,
            "min_speakers": min_speakers,
            "min_utterances": min_utterances,
            "audio_quality": audio_quality,
        }
        given = {key: value for key, value in options.items() if value is not None}
        experiment = _experiment(source, where, out, config, given, made=check)
        if check:
            _check(experiment)
        else:
            _prepare(experiment, config, same_command("tune_accent.prepare", sys.argv[2:] if context.parent else sys.argv[1:]))


def _experiment(
    kind: Kind, where: str | None, out: Path | None, config: Path | None, options: Mapping[str, Any], made: bool = False
) -> Experiment:
    """The experiment of the config, or one of defaults, with the command line's source in it; a corpus that is made needs no source."""
    from pydantic import ValidationError

    from tune_accent.config.document import Document
    from tune_accent.config.explain import explain
    from tune_accent.config.load import load_experiment
    from tune_accent.config.schema import Experiment

    loaded = load_experiment(config).experiment if config else None
    tree: dict[str, Any] = loaded.model_dump(exclude_unset=True) if loaded else {"seed": 0, "data": {}}
    own: dict[str, Any] = tree["data"].get("source", {}) if loaded and loaded.data.source.kind == kind.value else {}
    source = {**own, **_from(kind, where, own, made), **_allowed(kind, options), "kind": kind.value}
    tree["data"] = {**tree["data"], "source": source, **({"root": str(out)} if out else {})}
    if "root" not in tree["data"]:
        raise UserError("nothing says where the corpus goes", "--out", "--out data/NAME, or --config with data.root")
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, Document("command line", "", {}, {}))) from None
    if loaded and experiment.data != loaded.data:
        sys.stderr.write(
            f"note: a search reads {config} alone, and its section `data` is another; write there what you give here\n"
        )
    return experiment


def _from(kind: Kind, where: str | None, own: Mapping[str, Any], made: bool) -> dict[str, str]:
    if kind is Kind.demo:
        return {"preset": where} if where else {}
    if made and not where:
        return {"path": "."} if "path" not in own else {}
    if where is None and "path" not in own:
        fix = "--from FOLDER" + (
            ", a glob, or --from nilc-nlp/CORAA-MUPE-ASR" if kind is Kind.coraa_mupe else ", or --from FILE.zip"
        )
        raise UserError(f"nothing says where the {kind.value} corpus is", "--from", fix)
    return {"path": where} if where else {}


def _allowed(kind: Kind, options: Mapping[str, Any]) -> Mapping[str, Any]:
    if options and kind is not Kind.coraa_mupe:
        name = f"--{next(iter(options)).replace('_', '-')}"
        raise UserError(f"{name} is an option of coraa-mupe, not of {kind.value}", name, "leave it out")
    return options


def _check(experiment: Experiment) -> None:
    from tune_accent.base.progress import bars
    from tune_accent.data.checking import check_corpus

    with bars() as progress:
        words = check_corpus(experiment.data, progress)
    sys.stdout.write(words + "\n")


def _prepare(experiment: Experiment, config: Path | None, again: str) -> None:
    from tune_accent.base.progress import bars
    from tune_accent.data.corpus import split_seed
    from tune_accent.data.import_words import closing_words
    from tune_accent.data.importing import import_corpus

    try:
        with bars() as progress:
            done = import_corpus(experiment.data, experiment.gate, split_seed(experiment.seed), progress)
        sys.stdout.write(closing_words(done) + "\n")
        sys.stdout.flush()
        sys.stdout.write(_cache(experiment, config, ready=not done.obstacles))
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; what is finished is kept. To continue:\n  {again}\n")
        raise SystemExit(INTERRUPTED) from None


def _cache(experiment: Experiment, config: Path | None, ready: bool) -> str:
    """Compute the codes and embeddings that trials share, where a config says of which model; else say how."""
    root = experiment.data.root
    if not ready:
        return "Codes and embeddings are not computed before that is settled; the same command does it then.\n"
    if config is None:
        lines = ["Next: in your config", "  data:", f"    root: {root}", "    source: {kind: prepared}"]
        lines += [
            f"    min_duration_s: {experiment.data.min_duration_s:g}",
            f"    max_duration_s: {experiment.data.max_duration_s:g}",
        ]
        return (
            "\n".join(lines) + "\nThe first search or audit of it computes codes and embeddings, as --config CONFIG does here.\n"
        )
    from tune_accent.training.preparation import ensure_prepared

    record = ensure_prepared(experiment, show=True)
    named = str(experiment.data.root)
    return f"Codes and embeddings are in {named}/prepared/{record.cache}.\nNext: python -m tune_accent.audit {config}\n"


if __name__ == "__main__":
    app()
