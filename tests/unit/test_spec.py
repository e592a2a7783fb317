from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from quant_action.errors import SpecError
from quant_action.spec import BitsandbytesCandidate, GptqCandidate, json_schema, load_spec

Edit = Callable[[str, str], Path]


def fault(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(path), "quant.yml")


def test_spec_is_read_as_written(workspace: Path) -> None:
    loaded = load_spec(workspace / "quant.yml")
    assert loaded.spec.name == "tiny"
    assert loaded.spec.candidates["gptq-w4"] == GptqCandidate(method="gptq", bits=4, group_size=32)
    assert loaded.spec.candidates["bnb-nf4"] == BitsandbytesCandidate(method="bitsandbytes", type="nf4")
    assert loaded.spec.calibration is not None
    assert (loaded.spec.calibration.samples, loaded.spec.calibration.tokens) == (4, 16)
    assert loaded.spec.evaluation.text is not None
    assert loaded.spec.evaluation.text.window == 16
    assert loaded.where("candidates", "gptq-w4", "bits") == f"{workspace}/quant.yml:6:27"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bits: 4", "bitz: 4", "quant.yml:6:27: candidates.gptq-w4.bitz: unknown key; did you mean 'bits'?"),
        ("bits: 4, ", "", "quant.yml:6:3: candidates.gptq-w4: bits is missing"),
        ("bits: 4", 'bits: "4"', "quant.yml:6:27: candidates.gptq-w4.bits: Input should be a valid integer (found '4')"),
        ("bits: 4", "bits: true", "quant.yml:6:27: candidates.gptq-w4.bits: Input should be a valid integer (found True)"),
        ("nf4}", "nf5}", "quant.yml:7:35: candidates.bnb-nf4.type: 'nf5' is not one of 'nf4', 'fp4' or 'int8'; did you mean 'nf4'?"),
        ("name: tiny", "name: tiny\nname: other", "quant.yml:3:1: duplicate key 'name'; it first stands at quant.yml:2:1"),
        ("name: tiny", "name: [tiny]", "quant.yml:2:1: name: Input should be a valid string"),
        ("  text:", "  txt:", "quant.yml:9:3: evaluation.txt: unknown key; did you mean 'text'?"),
        ("max: 1.05", "max: 1.05, mni: 3", "quant.yml:13:47: gates.perplexity_ratio.mni: unknown key; known here: level, vs, max"),
        ("source: model", "source: a/b, revision: main", "quant.yml:3:22: model.revision: String should match pattern"),
        ("data/heldout", "../heldout", "quant.yml:9:10: evaluation.text.data: expected a path below the folder of the spec"),
        ("data/heldout", "/etc/heldout", "quant.yml:9:10: evaluation.text.data: expected a path below the folder of the spec"),
        ("group_size: 32", "group_size: 0", "quant.yml:6:36: candidates.gptq-w4.group_size: expected a number of inputs"),
        ("bnb-nf4:", "baseline:", "quant.yml:1:1: no candidate can be called baseline"),
        ("seed: 0", "seed: no", "quant.yml:4:69: calibration.seed: Input should be a valid integer (found 'no')"),
        ("evaluation:", "evaluation:\n  latency: {batch: [1]}", "quant.yml:9:3: evaluation.latency: latency needs prefill, decode or both"),
        ("evaluation:", "evaluation:\n  latency: {prefill: [8, 8]}", "quant.yml:9:13: evaluation.latency.prefill: each number once"),
        ("evaluation:", "evaluation:\n  latency: {decode: 8, batch: []}", "quant.yml:9:24: evaluation.latency.batch: "),
        ("gates:", "gates:\n  decode: {min: 0.9}", "gates.decode needs something to judge: give evaluation.latency.decode too"),
        ("bnb-nf4:", "floor:", "no candidate can be called floor: that is the unquantized model measured a second time"),
        ("bnb-nf4:", "release:", "no candidate can be called release: that is the last released artifact"),
        ("max: 1.05}", "max: 1.05, level: warning}", "gates.perplexity_ratio.level: 'warning' is not one of 'error' or 'warn'"),
        (
            "{vs: baseline, max: 1.05}",
            "[{vs: baseline, max: 1.05}, {max: 1.1}]",
            "quant.yml:13:3: gates.perplexity_ratio: two limits against the baseline; give one",
        ),
        (
            "{vs: baseline, max: 1.05}",
            "[{max: 1.1}, {vs: release, mx: 1}]",
            "gates.perplexity_ratio.1.mx: unknown key; did you mean 'max'?",
        ),
        ("{vs: baseline, max: 1.05}", "[]", "quant.yml:13:3: gates.perplexity_ratio: List should have at least 1 item"),
        ("{vs: baseline, max: 1.05}", "5", "gates.perplexity_ratio: Input should be a valid list"),
        ("  tasks:", "  looks: [0.5]\n  tasks:", "quant.yml:10:3: evaluation.looks: expected shares that rise to 1 by 0.01 or more"),
        ("  tasks:", "  looks: [0.5, 0.5, 1]\n  tasks:", "evaluation.looks: expected shares that rise to 1"),
        ("  tasks:", "  looks: []\n  tasks:", "evaluation.looks: List should have at least 1 item"),
        ("version: 1", "version: 2", "quant.yml:1:1: version: 2 is not one of 1"),
    ],
)
def test_fault_has_place_key_and_suggestion(edit_spec: Edit, old: str, new: str, message: str) -> None:
    assert message in fault(edit_spec(old, new))


def test_unknown_method_names_the_known_ones(edit_spec: Edit) -> None:
    message = fault(edit_spec("method: gptq", "method: gptk"))
    assert message.startswith("quant.yml:6:3: candidates.gptq-w4: 'gptk' is not one of 'gptq', 'awq', 'rtn', 'bitsandbytes', 'preset'")
    assert message.endswith("did you mean 'gptq'?")


def test_all_faults_are_told_at_once(edit_spec: Edit) -> None:
    edit_spec("bits: 4", "bitz: 4")
    message = fault(edit_spec("max: 1.05", "max: no"))
    assert len(message.splitlines()) == 3  # the unknown key, the missing bits, the gate
    assert "gates.perplexity_ratio.max" in message


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{lm_eval: gsm8k, metrics: 3}", "quant.yml:12:25: evaluation.tasks.t.metrics: unknown key; did you mean 'metric'?"),
        ("{data: a.jsonl, kind: choice, keen: 3}", "quant.yml:12:38: evaluation.tasks.t.keen: unknown key"),
        ("{lm_eval: ../mine.yaml}", "quant.yml:12:9: evaluation.tasks.t.lm_eval: expected a path below the folder of the spec"),
        ("{lm_eval: 'a b'}", "evaluation.tasks.t.lm_eval: expected the name of a task of lm-evaluation-harness, or a path ending in .yaml"),
        ("{lm_eval: gsm8k, metric: 'a b'}", "evaluation.tasks.t.metric: String should match pattern"),
    ],
)
def test_faults_of_a_task(edit_spec: Edit, task: str, message: str) -> None:
    assert message in fault(edit_spec("gates:\n", f"    t: {task}\ngates:\n"))


def test_missing_spec(tmp_path: Path) -> None:
    assert fault(tmp_path / "quant.yml") == "quant.yml: no such file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "quant.yml:1:5: is not YAML that a spec may hold"),
        ("a: !!python/object/apply:os.system [ls]", "quant.yml:1:4: is not YAML that a spec may hold"),
        ("- a", "quant.yml:1:1: expected keys such as version, name and model"),
        ("", "quant.yml:1:1: expected keys such as version, name and model"),
        ("a: &a {b: *a}", "quant.yml:1:4: an alias contains itself"),
        ("1: a", "quant.yml:1:1: a key must be plain text"),
        ("a: 1\n---\nb: 2", "quant.yml:2:1: is not YAML that a spec may hold"),
        ("x: " + " " * 2**20, "quant.yml: is 1,048,579 bytes"),
    ],
)
def test_yaml_that_is_no_spec(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quant.yml"
    path.write_text(text)
    assert fault(path).startswith(message)


def test_alias_bomb_is_refused_before_it_is_built(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "quant.yml"
    path.write_text("\n".join(lines))
    assert "more than 50,000 values" in fault(path)


@pytest.mark.parametrize(
    ("written", "size"), [("6GB", 6_000_000_000), ("1.5GiB", 1_610_612_736), ("800 kB", 800_000), ("12345", 12345), ("2mb", 2_000_000)]
)
def test_sizes(edit_spec: Edit, written: str, size: int) -> None:
    loaded = load_spec(edit_spec("  perplexity_ratio: {vs: baseline, max: 1.05}", f"  size: {{max: {written}}}"))
    assert loaded.spec.gates is not None
    assert loaded.spec.gates.size is not None
    assert loaded.spec.gates.size.max == size


def test_a_runtime_check_needs_text(edit_spec: Edit) -> None:
    assert load_spec(edit_spec("evaluation:\n", "evaluation:\n  runtime: true\n")).spec.evaluation.runtime
    message = fault(edit_spec("  text: {data: data/heldout.jsonl, window: 16}\n", ""))
    assert "evaluation.runtime compares on the evaluation's text" in message


def test_numbers_follow_yaml_1_2(edit_spec: Edit) -> None:
    loaded = load_spec(edit_spec("max: 1.05", "max: 1e1"))  # YAML 1.1 would read a string
    assert loaded.spec.gates is not None
    assert loaded.spec.gates.perplexity_ratio is not None
    assert loaded.spec.gates.perplexity_ratio[0].max == 10.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_yaml_is_refused_with_a_place_and_never_crashes(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_text(yaml.safe_dump(value, allow_unicode=False))
    with pytest.raises(SpecError, match=r"any\.yml"):
        load_spec(path)


def test_json_schema_accepts_and_refuses_what_the_spec_does(workspace: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    value = yaml.safe_load((workspace / "quant.yml").read_text())
    jsonschema.validate(value, schema)
    value["candidates"]["gptq-w4"]["bitz"] = 4
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema)


def test_committed_schema_is_the_code_s() -> None:
    committed = Path(__file__).parents[2] / "quant_action/spec.schema.json"
    assert json.loads(committed.read_text()) == json_schema(), "run: quant-action schema > quant_action/spec.schema.json"


OVERRIDE = '{candidate: gone, gate: accuracy, artifact: 3fa9c0ffee12, by: Ana, reason: "tickets-ja is being relabelled"}'


def with_override(edit_spec: Edit, old: str = "", new: str = "") -> Path:
    return edit_spec("gates:", f"overrides:\n  - {OVERRIDE.replace(old, new)}\ngates:")


def test_an_override_may_be_of_a_candidate_that_is_gone(edit_spec: Edit) -> None:
    (override,) = load_spec(with_override(edit_spec)).spec.overrides
    assert (override.candidate, override.gate, override.artifact, override.by) == ("gone", "accuracy", "3fa9c0ffee12", "Ana")
    assert override.reason == "tickets-ja is being relabelled"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gate: accuracy", "gate: accurcy", "quant.yml:13:23: overrides.0.gate: expected a gate (perplexity_ratio, kl, "),
        ("gate: accuracy", 'gate: "accuracy:a\\nb"', "overrides.0.gate: "),
        ("3fa9c0ffee12", "3fa9c0ffee1", "overrides.0.artifact: String should match pattern"),
        ("3fa9c0ffee12", "3FA9C0FFEE12", "overrides.0.artifact: String should match pattern"),
        ("3fa9c0ffee12", "f" * 65, "overrides.0.artifact: String should match pattern"),
        ("3fa9c0ffee12", "123456789012", "overrides.0.artifact: expected 12 to 64 hex digits; quote them, they look like a number"),
        ("by: Ana", "by: ' '", "overrides.0.by: String should have at least 1 character"),
        ("by: Ana", 'by: "An\\u202ea"', "overrides.0.by: expected one line of visible characters"),
        ("by: Ana, ", "", "overrides.0: by is missing"),
        ("by: Ana", "by: " + "a" * 101, "overrides.0.by: String should have at most 100 characters"),
        ("tickets-ja is", "tickets-ja\\nis", "overrides.0.reason: expected one line of visible characters"),
        ("tickets-ja is", "\\e[31m", "overrides.0.reason: expected one line of visible characters"),
        ("tickets-ja is being relabelled", "", "overrides.0.reason: String should have at least 1 character"),
        ("tickets-ja", "x" * 500, "overrides.0.reason: String should have at most 500 characters"),
        ("candidate: gone", "candidate: gone, until: 2030", "overrides.0.until: unknown key"),
    ],
)
def test_an_override_without_a_word_that_counts_is_refused(edit_spec: Edit, old: str, new: str, message: str) -> None:
    assert message in fault(with_override(edit_spec, old, new))


@pytest.mark.parametrize("gate", ["tasks", "kl_p99_ratio", "decode", "'accuracy:tickets'", "accuracy@ja"])
def test_an_override_names_a_gate_or_one_tripwire(edit_spec: Edit, gate: str) -> None:
    assert load_spec(with_override(edit_spec, "gate: accuracy", f"gate: {gate}")).spec.overrides[0].gate == gate.strip("'")


def test_one_gate_and_a_list_of_one_mean_the_same(edit_spec: Edit) -> None:
    one = load_spec(edit_spec("{vs: baseline, max: 1.05}", "{max: 1.05}")).spec.gates
    assert one == load_spec(edit_spec("{max: 1.05}", "[{max: 1.05}]")).spec.gates
    schema = json_schema()
    for gates in ({"accuracy": {"margin": 0.1}}, {"accuracy": [{"margin": 0.1}, {"vs": "release", "margin": 0.1}]}):
        value = {"version": 1, "name": "x", "model": {"source": "m"}, "candidates": {"a": {"preset": "nf4"}}, "gates": gates}
        jsonschema.validate(value, schema)
