"""`quant-action init`: a first spec, stubs of its data, `.gitignore`, and a workflow. What is there already is never overwritten."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quant_action.errors import InputError, RemoteError
from quant_action.gates import DEFAULT_PERPLEXITY_RATIO
from quant_action.guide import CHOOSE, GUIDE, SAMPLES, SUGGESTIONS, Goal, Hardware, Suggestion, fitting_group_size
from quant_action.model_files import ModelFiles, open_model
from quant_action.remotes.hub import COMMIT_FORM, find_commit, open_hub_model
from quant_action.spec import HUB_ID, NAME, parse_spec
from quant_action.storage import write_bytes, write_text

SPEC = "quant.yml"
STUBS = {"heldout": "data/heldout.jsonl", "choice": "data/choice.jsonl"}
CALIBRATION = "data/calibration.jsonl"
WORKFLOWS = ".github/workflows"
IGNORED = ".quant/"
COMMIT = re.compile(r"[0-9a-f]{40}")
BYTES_PER_TOKEN = 4
"""Of English text, roughly, for the hint how large a calibration file is."""

PHRASES: Mapping[Goal, str] = {"smallest": "the smallest model", "accurate": "the most accurate model", "easy": "the least friction"}


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    source: str
    """As the spec says it."""
    revision: str | None
    files: ModelFiles | None
    """None for a Hub model that could not be looked at."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was asked for, on a terminal or by flags."""

    folder: Path
    name: str
    model: ChosenModel
    goal: Goal
    hardware: Hardware
    calibration: str | None
    """Path relative to the folder."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    path: Path
    state: Literal["wrote", "added to", "kept"]
    stub: bool = False
    """It holds only the example rows, which have to be replaced."""


def choose_model(text: str, revision: str | None, folder: Path) -> ChosenModel:
    """The model that somebody means: a folder, as seen from here or from `folder`, or else a Hub id.

    A Hub id without a commit gets that of `revision`, a branch or tag, or of its main branch. Raises `InputError`, naming the flag, for
    what is neither; `ModelError` for a model that cannot be used.
    """
    local = next((path for path in (Path(text), folder / text) if text and path.is_dir()), None)
    if local is not None and revision is None:
        source = text if Path(text).is_absolute() and not _is_below(local, folder) else _relative(local, folder)
        return ChosenModel(source=source, revision=None, files=open_model(local))
    if not HUB_ID.fullmatch(text):
        what = "is a folder, which has no --revision" if local else "is neither a folder nor a Hub id such as organisation/name"
        raise InputError(f"--model: {text!r} {what}", remedy="Name a folder with a transformers model, or a model on the Hub.")
    if revision is None or not COMMIT.fullmatch(revision):
        try:
            revision = find_commit(text, revision)
        except RemoteError as error:
            raise InputError(f"--revision is needed: {error}", remedy=f"Give --revision, {COMMIT_FORM}.") from error
    try:
        return ChosenModel(source=text, revision=revision, files=open_hub_model(text, revision))
    except RemoteError:
        return ChosenModel(source=text, revision=revision, files=None)


def choose_calibration(text: str, folder: Path) -> str | None:
    """Path of the calibration data relative to `folder`; None for `none`. Raises `InputError` for a path that leads out of it."""
    if text == "none":
        return None
    path = _relative(Path(text), folder) if Path(text).is_file() else Path(text).as_posix()
    if path.startswith("/") or ".." in Path(path).parts or not path.isprintable() or not path or (folder / path).is_dir():
        raise InputError(
            f"--calibration: {text!r} is no file below {folder}", remedy="Data lies beside the spec, in the repository; or say none."
        )
    return path


def choose_name(text: str) -> str:
    """The artifact's name. Raises `InputError` for what the spec does not allow."""
    if not NAME.fullmatch(text):
        raise InputError(f"--name: {text!r} is no name", remedy="Use up to 64 lower-case letters, digits and hyphens inside.")
    return text


def default_name(model: ChosenModel, folder: Path) -> str:
    """From a Hub id, or for a model in a folder from the project's folder."""
    base = model.source.rpartition("/")[2] if model.revision else folder.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")[:64].strip("-") or "model"


def render_spec(answers: Answers) -> str:
    """The text of `quant.yml`. Raises `SpecError` should it not load: nothing is written then."""
    calibrated = answers.calibration is not None
    samples, tokens = SAMPLES[answers.hardware]
    layers = answers.model.files.linear_layers.values() if answers.model.files else []
    tokens = min(tokens, _context(answers.model.files))
    group_size = fitting_group_size(inputs for _, inputs in layers)
    chosen = {name: SUGGESTIONS[name] for name in GUIDE[answers.goal, calibrated, answers.hardware]}
    place = "on a GPU" if answers.hardware == "gpu" else "on a CPU"
    text = _render(
        "quant.yml.j2",
        name=answers.name,
        source=answers.model.source,
        revision=answers.model.revision,
        calibration=answers.calibration,
        samples=samples,
        tokens=tokens,
        megabytes=max(0.1, round(samples * tokens * BYTES_PER_TOKEN / 1e6, 1)),
        wish=f"{PHRASES[answers.goal]}, {'with' if calibrated else 'without'} calibration data, {place}",
        candidates=[
            {"id": name, "reason": suggestion.reason, "options": _options(suggestion, group_size)} for name, suggestion in chosen.items()
        ],
        group_size=any(suggestion.grouped for suggestion in chosen.values()),
        group_note=""
        if answers.model.files
        else "; the model could not be looked at,\n# so `quant-action plan` has yet to say whether this one does",
        window=tokens,
        perplexity=", ".join(f"{ratio} ({bits} bits)" for bits, ratio in DEFAULT_PERPLEXITY_RATIO.items()),
        choose=CHOOSE[answers.goal],
    )
    parse_spec(text, answers.folder / SPEC)
    return text


def write_project(answers: Answers) -> list[Outcome]:
    """Write what is not there yet; the spec last, so that an interrupted call can be repeated.

    Raises `InputError`, before anything is written, when there is another spec already.
    """
    folder = answers.folder
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError("is not a folder", where=str(folder), remedy="Name the folder that the spec shall lie in.")
    spec = render_spec(answers)
    workflow, workflow_text = _workflow(answers)
    refuse_other_spec(folder, spec)
    stubs = {**({"calibration": answers.calibration} if answers.calibration else {}), **STUBS}
    outcomes = [_write_new(folder / path, _template(f"{name}.jsonl"), stub=True) for name, path in stubs.items()]
    outcomes.append(_ignore(folder / ".gitignore"))
    outcomes.append(_write_new(workflow, workflow_text))
    return [_write_new(folder / SPEC, spec), *outcomes]


def refuse_other_spec(folder: Path, text: str | None = None) -> None:
    """Raise `InputError` when the folder has a spec that is not `text`: it is somebody's work."""
    path = folder / SPEC
    if os.path.lexists(path) and (text is None or not path.is_file() or path.read_bytes() != text.encode()):
        raise InputError(
            "is there already, and init never overwrites", where=str(path), remedy="Edit it, or move it away and run init again."
        )


# The workflow -------------------------------------------------------------------------------------------------------


def _workflow(answers: Answers) -> tuple[Path, str]:
    """Where GitHub looks for workflows, at the repository's root, and the text of ours."""
    folder = answers.folder.resolve()
    root = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)
    below = folder.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    if "${{" in prefix or not prefix.isprintable():
        raise InputError("has a name that a workflow cannot hold safely", where=str(answers.folder), remedy="Rename the folder.")
    name = f"quant-{answers.name}" if prefix else "quant"
    path = root / WORKFLOWS / f"{name}.yml"
    watched = [SPEC, "data/**"]
    if answers.calibration and not answers.calibration.startswith("data/"):
        watched.append(_literally(answers.calibration))
    if answers.model.revision is None and not answers.model.source.startswith((".", "/")):
        watched.append(f"{_literally(answers.model.source)}/**")
    text = _render(
        "workflow.yml.j2",
        workflow=name,
        spec=prefix + SPEC,
        report=f"{prefix}.quant/runs/{answers.name}.latest/report.md",
        paths=[json.dumps(_literally(prefix) + pattern, ensure_ascii=False) for pattern in watched]
        + [json.dumps(f"{WORKFLOWS}/{name}.yml")],
        labels="[self-hosted, linux, gpu]" if answers.hardware == "gpu" else "[self-hosted, linux]",
        revision=answers.model.revision,
    )
    return path, text


def _literally(path: str) -> str:
    """A path as a pattern of GitHub's that matches just it."""
    return re.sub(r"([*?+\[\]!\\])", r"\\\1", path)


# Files --------------------------------------------------------------------------------------------------------------


def _write_new(path: Path, text: str, *, stub: bool = False) -> Outcome:
    if os.path.lexists(path):
        return Outcome(path=path, state="kept", stub=stub and path.is_file() and path.read_bytes() == text.encode())
    write_text(path, text)
    return Outcome(path=path, state="wrote", stub=stub)


def _ignore(path: Path) -> Outcome:
    """Add what runs leave behind to `.gitignore`, unless it stands there."""
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    if any(line.strip().strip("/") == IGNORED.strip("/") for line in text.splitlines()):
        return Outcome(path=path, state="kept")
    end = "\r\n" if "\r\n" in text else "\n"
    joint = "" if not text or text.endswith("\n") else end
    outcome = Outcome(path=path, state="added to" if path.exists() else "wrote")
    write_bytes(path.resolve(), f"{text}{joint}{IGNORED}{end}".encode("utf-8", "surrogateescape"))
    return outcome


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


# Text ---------------------------------------------------------------------------------------------------------------


def _context(files: ModelFiles | None) -> int:
    """How many tokens the model reads at most, where its configuration says so."""
    context = files.context if files else None
    return context if context and context >= 16 else 2**31


def _options(suggestion: Suggestion, group_size: int | str) -> str:
    """A candidate as one line of YAML; its method and bits first, then the group size."""
    options: dict[str, str | int | bool] = dict(suggestion.options)
    if suggestion.grouped:
        first = {key: options.pop(key) for key in ("method", "bits")}
        options = {**first, "group_size": group_size, **options}
    return "{" + ", ".join(f"{key}: {str(value).lower()}" for key, value in options.items()) + "}"


def quoted(text: str) -> str:
    """Text as a YAML scalar that is text to every parser, also where it looks like a number."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9._/-]*", text) and text.lower() not in {
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
    }
    return text if plain else json.dumps(text, ensure_ascii=False)


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, StrictUndefined  # slow to load, and only init needs it here

    environment = Environment(  # noqa: S701 -- YAML, in which `quoted` escapes what needs it; not HTML
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_template(template)).render(quoted=quoted, **values)
