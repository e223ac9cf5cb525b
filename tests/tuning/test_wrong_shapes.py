"""Files of a results folder that are whole (their checksums are right) and of another shape: refused with place and reason, never a traceback.

What another version of the program, or somebody who also mends the checksum, could leave there; generated from seeds, on a real finished search.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tuning.small_search import report, request
from tests.tuning.whole_search import Search
from tune_accent.base.entry import guarded
from tune_accent.base.files import sha256_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.tracking.provenance import decisive
from tune_accent.tuning import driver, folder
from tune_accent.tuning.core import Settings
from tune_accent.tuning.growth import change_words, read_earlier
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.shapes import draw_fault, report_fault
from tune_accent.tuning.suggest import make_suggester
from tune_accent.tuning.summary import closing_words

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

pytest.importorskip("torch")
NUMBERS = st.integers(-3, 3) | st.floats() | st.sampled_from([10**400, 2**64, 1e308, 5e-324])
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=4) | st.sampled_from(["\ud800", "\x1b[2J", "DIVERGED", "12"])
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6
)
KINDS = ("epoch", "failure", "suggestion")
Tree = dict[str, Any]


class Finished:
    """A finished search, put back to how it was for every example."""

    def __init__(self, search: Search) -> None:
        self.search, self.root = search, search.root
        search.launch()
        key = max((self.root / "trials").iterdir(), key=lambda trial: len(list(trial.glob("*.json")))).name
        self.places = {
            "epoch": self.root / "trials" / key / "0001.json",
            "failure": self.root / "trials" / key / "failure.json",
            "suggestion": self.root / "suggestions" / "00001.json",
        }
        failure = {"key": key, "failure": {"state": "CRASHED", "epoch": 2, "message": "não há memória"}}
        self._contents: dict[str, Tree] = {"failure": failure}
        for kind in ("epoch", "suggestion"):
            content = json.loads(self.places[kind].read_text())
            self._contents[kind] = {name: value for name, value in content.items() if name != "sha256"}
        self.environment = json.loads((self.root / "environment.json").read_text())
        self._whole, self._folders = self.files(), self.folders()

    def content(self, kind: str) -> Tree:
        """What a right file of `kind` holds, without its checksum."""
        return deepcopy(self._contents[kind])

    def restored(self) -> Finished:
        """As it was when it was finished."""
        now = self.files()
        for path in now.keys() - self._whole.keys():
            path.unlink()
        for path in sorted(self.folders() - self._folders, reverse=True):
            path.rmdir()
        for path, data in self._whole.items():
            if now.get(path) != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return self

    def folders(self) -> set[Path]:
        return {path for path in self.root.rglob("*") if path.is_dir()}

    def files(self) -> Mapping[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def launched(self) -> str | None:
        """Launch as an entry does: None, or the words of a refusal with exit code 2, which changes nothing. Everything else passes."""
        before, said = self.files(), io.StringIO()
        try:
            with redirect_stderr(said), guarded():
                outcome = self.search.launch()
                closing_words(self.search.request, outcome, "x")
        except SystemExit as ended:
            text = said.getvalue()
            assert ended.code == 2 and text.count("error: ") == 1 and "→" in text and "Traceback" not in text, text
            assert self.files() == before, "a refusal changes nothing"
            return text
        return None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "log_to", lambda file: None)
        patch.setattr(driver, "export_study", lambda core, space, path: None)  # made from the same records, and slow
        yield Finished(Search(tmp_path_factory.mktemp("shapes") / "results", patch))


def signed(path: Path, content: Any) -> None:
    """Write `content` with a right checksum."""
    whole = {**content, "sha256": sha256_json(content)} if isinstance(content, dict) else content
    path.write_text(json.dumps(whole))


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a tree of mappings and lists, but for itself."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from places(inner, (*path, name))


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def optional(path: tuple[Any, ...]) -> bool:
    """Whether a report may lack it: losses and figures of h beside those that the search reads."""
    return path[:1] == ("metrics",) and len(path) == 2 and (path[1].startswith("loss_") or path[1].endswith("_h"))


def free(path: tuple[Any, ...]) -> bool:
    """Whether its names are those of speakers and accents."""
    return path[:2] == ("metrics", "evaluation") and path[2:3] in [("speakers",), ("secondary",)] and len(path) > 3


@st.composite
def wrong(draw: st.DrawFn, right: Tree) -> Tree:
    """`right` with something missing, something more, or something of another kind."""
    tree = deepcopy(right)
    path = draw(st.sampled_from([path for path in places(right) if not optional(path)]))
    owner, name, value = at(tree, path[:-1]), path[-1], at(tree, path)
    ways = ["another kind"]
    if isinstance(owner, dict) and not free(path[:-1]):
        ways += ["missing"] + ["more"] * (path[:-1] != ("metrics",))
    match draw(st.sampled_from(ways)):
        case "missing":
            del owner[name]
        case "more":
            owner[draw(st.sampled_from(["x", "Ã", "", "sha512"]))] = draw(PLAIN.filter(lambda value: value == value))
        case _:
            owner[name] = [value] if isinstance(value, dict) else {"x": 1}
    return tree


def encodable(content: Any) -> bool:
    """Whether it has a checksum at all: no NaN, no half characters."""
    try:
        sha256_json(content)
    except ValueError:
        return False
    return True


SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", KINDS)
@settings(SETTINGS, max_examples=40)
@given(data=st.data())
def test_a_whole_file_of_another_shape_is_refused(finished: Finished, kind: str, data: st.DataObject) -> None:
    content = data.draw(wrong(finished.content(kind)).filter(encodable))
    path = finished.restored().places[kind]
    signed(path, content)
    said = finished.launched()
    assert said is not None and str(path) in said and "its checksum is right, but " in said and "remove it" in said
    assert said.removesuffix("\n").replace("\n", "").isprintable(), "what a file holds does not act on the terminal"


@pytest.mark.parametrize("kind", KINDS)
@settings(SETTINGS, max_examples=40)
@given(data=st.data())
def test_anything_with_a_right_checksum_is_refused_or_read(finished: Finished, kind: str, data: st.DataObject) -> None:
    """Also where the shape is right and only the values are not: then they are believed."""
    content: Any = data.draw(ANY)
    if data.draw(st.booleans()):
        right = finished.content(kind)
        path = data.draw(st.sampled_from(list(places(right))))
        at(right, path[:-1])[path[-1]] = content
        content = right
    if encodable(content):
        signed(finished.restored().places[kind], content)
        said = finished.launched()
        assert said is None or str(finished.places[kind]) in said


@pytest.mark.parametrize("name", ["best.json", "best/checksums.json", "earlier.json"])
@settings(SETTINGS, max_examples=40)
@given(content=ANY)
def test_what_is_derived_is_made_anew(finished: Finished, name: str, content: Any) -> None:
    before = finished.restored().files()
    (finished.root / name).write_text(json.dumps(content))
    assert finished.launched() is None
    earlier = read_earlier(finished.root, 99)
    change_words(earlier, (), 99)
    (finished.root / "earlier.json").unlink(missing_ok=True)
    assert finished.files() == before


@settings(SETTINGS, max_examples=40)
@given(content=ANY, data=st.data())
def test_any_environment_but_its_own_is_refused(finished: Finished, content: Any, data: st.DataObject) -> None:
    path = finished.restored().root / "environment.json"
    if data.draw(st.booleans()):
        right = {**finished.environment, "continued_from": [], "packages": {"torch": "absent", "rich": "2"}}
        place = data.draw(st.sampled_from(list(places(right))))
        at(right, place[:-1])[place[-1]] = content
        content = right
    path.write_text(json.dumps(content))
    said = finished.launched()
    if said is None:
        assert decisive(content) == decisive(finished.environment) and isinstance(content.get("continued_from", []), list)
    else:
        assert str(finished.root) in said and "--accept-environment" in said


@settings(SETTINGS, max_examples=40)
@given(content=ANY, data=st.data())
def test_any_spec_is_refused_or_written_anew(finished: Finished, content: Any, data: st.DataObject) -> None:
    """With the hash that is beside it, with its own, and with none."""
    root, before = finished.restored().root, (finished.root / "spec.yaml").read_bytes()
    right: Any = json.loads(json.dumps(vars(folder.read_spec(root))))
    if data.draw(st.booleans()):
        place = data.draw(st.sampled_from(list(places(right))))
        at(right, place[:-1])[place[-1]] = content
        content = right
    (root / "spec.yaml").write_text(json.dumps(content))  # JSON is YAML
    edited = folder.read_spec(root)
    own = data.draw(st.sampled_from(["kept", "own", "none"]))
    if own != "kept":
        (root / "spec.sha256").write_text(edited.sha256() if edited and own == "own" else "")
    said = finished.launched()
    if said is None:
        assert (root / "spec.yaml").read_bytes() == before
    else:
        assert str(root) in said and "--fresh" in said


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 900 + "]" * 900, '{"sha256": ' + "[" * 900 + "]" * 900 + "}"])
@pytest.mark.parametrize("name", ["best.json", "environment.json", "earlier.json", *KINDS])
def test_numbers_without_end_and_deep_nesting(finished: Finished, name: str, text: str) -> None:
    path = finished.restored().places.get(name, finished.root / name)
    path.write_text(text)
    said = finished.launched()
    assert (said is not None and "--accept-environment" in said) if name == "environment.json" else said is None


MIXED = """\
method: METHOD
metric: {name: score, goal: maximize}
run_cap: 5
parameters:
  config: {value: small.yaml}
  lora_rank: {min: 2, max: 9}
  leakage_weight: {values: [0, 1, 0.5]}
  training.gradient_checkpointing: {values: [true, false]}
  training.patience: {values: [null, 2]}
  lr: LR
"""
RANGES = {
    "random": "{distribution: log_uniform_values, min: 0.001, max: 0.02}",
    "bayes": "{distribution: q_log_uniform_values, min: 0.001, max: 0.02, q: 0.0003}",
    "grid": "{distribution: q_uniform, min: 0.001, max: 0.02, q: 0.001}",
}


@pytest.mark.parametrize("method", RANGES)
def test_what_the_sampler_draws_is_right_and_what_it_cannot_draw_is_not(tmp_path: Path, method: str) -> None:
    space = request(tmp_path, MIXED.replace("METHOD", method).replace("LR", RANGES[method])).space
    fault = draw_fault(space)
    suggester = make_suggester(space.space, Settings(40, 1, 1, seed=3), method=space.method)
    for number in range(40):
        drawn = suggester.ask(number, 0)
        draw = json.loads(json.dumps(drawn))
        assert drawn is not None and fault(draw) is None
        suggester.tell(number, "COMPLETE", [suggester.params(drawn)["lr"]])
    foreign: dict[str, tuple[object, ...]] = {
        "lora_rank": (True, 2.5, 1, 10, [2], None, 10**400),
        "lr": ("0.01", 0.03, 0.0009, True, {}, None),
        "leakage_weight": (2, "0", False, [0.5], None),
        "training.gradient_checkpointing": (1, 0.0, "true"),
        "training.patience": ("", 2.0, 0, []),
    }
    for name, value in ((name, value) for name, values in foreign.items() for value in values):
        assert str(fault({**draw, name: value})).startswith(f"{name} is "), (name, value)


def test_a_report_of_real_training_is_right(small_spec: Experiment, small_data: TrialData, tmp_path: Path) -> None:
    from tune_accent.training.trainer import train

    run = train(resolve(small_spec, {"lora_rank": 2}), small_data)
    metrics = next(run).metrics
    run.close()
    FolderMemo(tmp_path).record("a", 1, metrics)
    assert report_fault(metrics) is None
    assert len(FolderMemo(tmp_path, report_fault).reports("a")) == 1


@pytest.mark.parametrize(("name", "value"), [("loss_a", 0.5), ("lr", 1e-3), ("accent_f1_h", None), ("note", "não"), ("x", True)])
def test_a_report_may_say_more_in_single_values(name: str, value: object) -> None:
    right = report({"leakage_weight": 1}, "ab" * 10, 1)
    assert report_fault(right) is None and report_fault({**right, name: value}) is None
    for wrong_value in ([value], {"x": value}, 10**400):
        assert str(report_fault({**right, name: wrong_value})).startswith(f"{name} is ")
