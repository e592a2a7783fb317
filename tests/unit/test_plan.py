from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from quant_action.checkpoints.formats import format_of
from quant_action.engines import engines
from quant_action.errors import DataError, ModelError, SpecError
from quant_action.evaluate import evaluation_key, floor_key, release_key
from quant_action.inputs import open_inputs
from quant_action.manifest import Manifest
from quant_action.plan import PRESETS, make_plan, named_layers, resolve_scheme
from quant_action.records import BitsandbytesScheme, Plan, WeightScheme
from quant_action.spec import AwqCandidate, GptqCandidate, RtnCandidate, load_spec
from tests.golden.records import CANDIDATES

from .conftest import write_model, write_rows

Edit = Callable[[str, str], Path]
CPU = "cpu x86_64"


def planned(path: Path, device: str = CPU) -> Plan:
    loaded = load_spec(path)
    return make_plan(loaded, open_inputs(loaded), device)


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        planned(path)
    return str(caught.value).replace(str(path), "quant.yml") + f" | {caught.value.remedy}"


def test_plan_names_engine_scheme_and_reason(workspace: Path) -> None:
    plan = planned(workspace / "quant.yml")
    gptq, nf4 = plan.jobs
    assert (gptq.id, gptq.engine, gptq.environment) == ("gptq-w4", "native", "host")
    assert gptq.scheme == WeightScheme(
        method="gptq", bits=4, group_size=32, symmetric=True, clip=True, scales=None, act_order=True, static_groups=True, damping=0.01
    )
    assert (nf4.engine, nf4.scheme) == ("bitsandbytes", BitsandbytesScheme(method="bitsandbytes", type="nf4"))
    assert nf4.engine_reason
    assert plan.model.architecture == "LlamaForCausalLM"
    assert Plan.from_json(plan.to_json(), where="plan") == plan


def test_same_inputs_same_keys(workspace: Path) -> None:
    assert planned(workspace / "quant.yml") == planned(workspace / "quant.yml")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("bits: 4", "bits: 8", {"gptq-w4", "plan"}),
        ("group_size: 32", "group_size: 16", {"gptq-w4", "plan"}),
        ("seed: 0", "seed: 1", {"gptq-w4", "plan"}),
        ("samples: 4", "samples: 5", {"gptq-w4", "plan"}),
        ("type: nf4", "type: fp4", {"bnb-nf4", "plan"}),
        ("window: 16", "window: 8", {"baseline", "plan"}),
        ("evaluation:\n", "evaluation:\n  samples: hash-only\n", {"baseline", "plan"}),
        ("max: 1.05", "max: 1.06", set()),
        ("evaluation:\n", "evaluation:\n  runtime: true\n", {"plan"}),
        ("evaluation:\n", "evaluation:\n  latency: {decode: 8}\n", {"plan"}),
        ("evaluation:\n", "evaluation:\n  looks: [0.5, 1]\n", {"plan"}),
        ("name: tiny", "name: small", {"plan"}),
    ],
)
def test_a_key_changes_with_what_decides_the_result_and_with_nothing_else(
    workspace: Path, edit_spec: Edit, old: str, new: str, changed: set[str]
) -> None:
    def keys(plan: Plan) -> dict[str, str]:
        return {"plan": plan.key, "baseline": plan.baseline_key} | {job.id: job.key for job in plan.jobs}

    before = keys(planned(workspace / "quant.yml"))
    after = keys(planned(edit_spec(old, new)))
    assert {name for name in before if before[name] != after[name]} == changed


def test_content_of_data_and_model_is_in_the_keys(workspace: Path) -> None:
    path = workspace / "quant.yml"
    first = planned(path)
    write_rows(workspace / "data/calibration.jsonl", [{"text": "something else"}])
    second = planned(path)
    assert first.jobs[0].key != second.jobs[0].key
    assert first.jobs[1].key == second.jobs[1].key  # nf4 does not look at it
    assert first.baseline_key == second.baseline_key
    (workspace / "model/tokenizer.json").write_text('{"version": "2"}')
    third = planned(path)
    assert third.jobs[1].key != second.jobs[1].key
    assert third.baseline_key != second.baseline_key


LONG = "evaluation:\n  long_text: {data: data/long.jsonl, tokens: 64}\n"


def test_the_protocol_says_everything_that_decides_a_number(workspace: Path, edit_spec: Edit) -> None:
    write_rows(workspace / "data/long.jsonl", [{"text": f"long row {number}"} for number in range(3)])
    path = edit_spec("evaluation:\n", LONG + "  samples: hash-only\n")
    on_cpu, on_gpu = planned(path).protocol, planned(path, "NVIDIA H200").protocol
    said = on_cpu.model_dump()
    assert {
        key: said[key] for key in ("id", "bos", "stride", "positions", "dtype", "logits", "log_softmax", "batch_tokens", "samples")
    } == {
        "id": "ppl-v1",
        "bos": "once before each text, where the tokenizer adds one",
        "stride": "window",
        "positions": "all but the first of a window",
        "dtype": "float32",
        "logits": "float32",
        "log_softmax": "float64",
        "batch_tokens": 2048,
        "samples": "hash-only",
    }
    assert (on_gpu.dtype, on_gpu.batch_tokens) == ("bfloat16", 16384)
    assert on_cpu.text is not None
    assert on_cpu.text.digest == hashlib.sha256((workspace / "data/heldout.jsonl").read_bytes()).hexdigest()
    assert on_cpu.long_text is not None
    assert (on_cpu.long_text.tokens, on_cpu.long_text.scored) == (64, 6)
    assert on_cpu.digest != on_gpu.digest


def test_tokenizer_files_decide_the_protocol_and_others_do_not(workspace: Path) -> None:
    path = workspace / "quant.yml"
    first = planned(path).protocol
    (workspace / "model/generation_config.json").write_text("{}")
    assert planned(path).protocol.digest == first.digest
    (workspace / "model/chat_template.jinja").write_text("{{ messages }}")
    second = planned(path).protocol
    assert second.digest != first.digest
    (workspace / "model/tokenizer.json").write_text('{"version": "2"}')
    assert len({first.tokenizer, second.tokenizer, planned(path).protocol.tokenizer}) == 3


def test_data_files_count_by_their_content_and_not_by_their_names(workspace: Path, edit_spec: Edit) -> None:
    write_rows(workspace / "data/long.jsonl", [{"text": f"long row {number}"} for number in range(3)])
    first = planned(edit_spec("evaluation:\n", LONG)).protocol
    for name in ("long", "heldout", "choice"):
        (workspace / f"data/{name}.jsonl").rename(workspace / f"data/{name}2.jsonl")
        edit_spec(f"data/{name}.jsonl", f"data/{name}2.jsonl")
    renamed = planned(workspace / "quant.yml").protocol
    assert (renamed.digest, renamed == first) == (first.digest, False)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [("window: 16", "window: 33", "text.window"), ("evaluation:\n", LONG, "long_text.tokens")],
)
def test_more_than_the_context_is_refused_before_anything_is_quantized(
    workspace: Path, edit_spec: Edit, old: str, new: str, place: str
) -> None:
    write_rows(workspace / "data/long.jsonl", [{"text": f"long row {number}"} for number in range(3)])
    config = workspace / "model/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 32}))
    message = refusal(edit_spec(old, new))
    assert (
        f"evaluation.{place} is {'33' if 'window' in place else '64'}, and the model's context is 32 tokens | Ask for at most 32."
        in message
    )


def test_calibration_text_in_long_documents_is_refused(workspace: Path, edit_spec: Edit) -> None:
    write_rows(workspace / "data/long.jsonl", [{"text": "calibration row 3 about apples"}])
    with pytest.raises(DataError, match=r"long\.jsonl:1: this text is also calibrated on"):
        planned(edit_spec("evaluation:\n", LONG))


def test_results_of_two_devices_are_never_mixed(workspace: Path) -> None:
    on_cpu, on_gpu = planned(workspace / "quant.yml"), planned(workspace / "quant.yml", "NVIDIA H200")
    assert on_cpu.baseline_key != on_gpu.baseline_key
    assert {job.key for job in on_cpu.jobs}.isdisjoint(job.key for job in on_gpu.jobs)


def test_group_size_that_does_not_divide_a_layer_names_it(edit_spec: Edit) -> None:
    message = refusal(edit_spec("group_size: 32", "group_size: 64"))
    assert message == (
        "quant.yml:6:36: candidate gptq-w4: groups of 64 do not divide the 96 inputs of model.layers.{0-1}.mlp.down_proj"
        " | Sizes that divide every layer: 16, 32; or channel."
    )


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        (["model.layers.7.mlp.up"], "model.layers.7.mlp.up"),
        ([f"h.{number}.fc" for number in (0, 1, 2, 5, 10, 11)], "h.{0-2,5,10-11}.fc"),
        (["h.0.a", "h.0.b", "h.1.a"], "h.{0-1}.a, h.0.b"),
        (["layers.3"], "layers.3"),
    ],
)
def test_layers_are_named_together_and_none_is_left_out(layers: list[str], named: str) -> None:
    assert named_layers(layers) == named


@given(
    method=st.sampled_from(["gptq", "awq", "rtn"]),
    bits=st.sampled_from([2, 3, 4, 8]),
    outputs=st.integers(1, 200),
    inputs=st.integers(1, 200),
)
def test_shapes_are_refused_before_the_work_as_the_formats_refuse_them(method: str, bits: int, outputs: int, inputs: int) -> None:
    scheme = WeightScheme(method=method, bits=bits, group_size=-1, symmetric=True, clip=False, scales=None)  # type: ignore[arg-type]
    said = format_of(scheme).refuses(out_features=outputs, in_features=inputs, scheme=scheme)
    assert engines()["native"].refuses_shape(scheme, outputs, inputs) == said


@pytest.mark.parametrize(
    ("engine", "method", "outputs", "inputs", "said"),
    [
        ("auto-gptq", "gptq", 64, 48, "48 inputs do not fill whole 32-bit words (a multiple of 32 does)"),
        ("gptqmodel", "gptq", 40, 64, "40 outputs do not fill whole 32-bit words (a multiple of 32 does)"),
        ("gptqmodel", "gptq", 32, 96, None),
        ("gptqmodel", "awq", 96, 48, "96 outputs are no multiple of 64, which its clip search needs"),
        ("autoawq", "awq", 192, 48, None),
        ("autoawq", "awq", 100, 48, "100 outputs are no multiple of 64, which its clip search needs"),
        ("autoawq", "awq plain", 96, 48, None),
        ("autoawq", "awq plain", 100, 48, "100 outputs do not fill whole 32-bit words (a multiple of 8 does)"),
        ("llm-compressor", "gptq", 40, 48, None),
    ],
)
def test_shapes_that_libraries_cannot_pack(engine: str, method: str, outputs: int, inputs: int, said: str | None) -> None:
    name, _, plain = method.partition(" ")
    scheme = WeightScheme(method=name, bits=4, group_size=16, symmetric=False, clip=name == "awq" and not plain, scales=None)  # type: ignore[arg-type]
    assert engines()[engine].refuses_shape(scheme, outputs, inputs) == said


def test_a_shape_that_cannot_be_stored_names_its_layers(workspace: Path) -> None:
    shapes = {"self_attn.q_proj": (64, 64), "mlp.up_proj": (40, 64)}
    tensors = {f"model.layers.{n}.{name}.weight": np.ones(shape, np.float32) for n in range(2) for name, shape in shapes.items()}
    save_file(tensors, workspace / "model/model.safetensors")
    assert refusal(workspace / "quant.yml") == (
        "quant.yml:6:3: candidate gptq-w4: model.layers.{0-1}.mlp.up_proj: 40 outputs do not fill whole 32-bit words "
        "(a multiple of 32 does) | Use another method for this model."
    )


def test_one_scale_per_channel_fits_every_layer(edit_spec: Edit) -> None:
    scheme = planned(edit_spec("group_size: 32", "group_size: channel")).jobs[0].scheme
    assert isinstance(scheme, WeightScheme)
    assert scheme.group_size == -1


def test_bits_that_the_engine_lacks(edit_spec: Edit) -> None:
    message = refusal(edit_spec("bits: 4", "bits: 5"))
    assert message.startswith("quant.yml:6:3: candidate gptq-w4: no engine can do this (native: ")
    assert "5" in message.split("native: ")[1]


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("exllama", "there is no engine 'exllama' | Installed are: native, bitsandbytes, gptqmodel, llm-compressor, auto-gptq, autoawq."),
        ("bitsandbytes", "it does bitsandbytes, not gptq"),
    ],
)
def test_engine_that_is_missing_or_unfit(edit_spec: Edit, engine: str, message: str) -> None:
    assert message in refusal(edit_spec("bits: 4", f"bits: 4, engine: {engine}"))


def test_calibrated_method_without_calibration(edit_spec: Edit) -> None:
    message = refusal(edit_spec("calibration: {data: data/calibration.jsonl, samples: 4, tokens: 16, seed: 0}\n", ""))
    assert message.startswith("quant.yml:5:3: candidate gptq-w4 needs calibration data, and the spec has none | Add calibration")


HARNESS_TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: data/choice.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
"""


def test_tasks_of_the_harness_are_part_of_the_protocol(workspace: Path, edit_spec: Edit) -> None:
    without = planned(workspace / "quant.yml")
    (workspace / "mine.yaml").write_text(HARNESS_TASK)
    path = edit_spec(
        "  tasks:\n",
        "  tasks:\n    gsm8k: {lm_eval: gsm8k, limit: 5, metric: 'exact_match,strict-match'}\n    mine: {lm_eval: mine.yaml}\n",
    )
    plan = planned(path)
    suite, file = plan.protocol.harness
    assert (suite.id, suite.task, suite.digest, suite.metric, suite.limit) == ("gsm8k", "gsm8k", None, "exact_match,strict-match", 5)
    assert (file.id, file.task, file.metric, file.limit, file.version) == ("mine", "mine.yaml", None, None, "0.4.13")
    assert file.digest == open_inputs(load_spec(path)).harness["mine"].digest
    assert [task.id for task in plan.protocol.tasks] == ["facts"]
    assert plan.scorer != without.scorer, "the harness's lock and our code around it decide numbers too"
    assert plan.baseline_key != without.baseline_key
    assert [job.key for job in plan.jobs] == [job.key for job in without.jobs]
    assert Plan.from_json(plan.to_json(), where="plan") == plan


def test_the_name_of_a_task_file_decides_nothing_and_its_content_does(workspace: Path, edit_spec: Edit) -> None:
    for name, text in (("one.yaml", HARNESS_TASK), ("two.yaml", HARNESS_TASK), ("three.yaml", HARNESS_TASK + "description: please\n")):
        (workspace / name).write_text(text)
    path = edit_spec("    facts: {data: data/choice.jsonl, kind: choice}", "    mine: {lm_eval: one.yaml}")
    first = planned(path).baseline_key
    assert planned(edit_spec("one.yaml", "two.yaml")).baseline_key == first
    assert planned(edit_spec("two.yaml", "three.yaml")).baseline_key != first


def test_text_that_is_calibrated_on_and_asked_by_the_harness(workspace: Path, edit_spec: Edit) -> None:
    (workspace / "mine.yaml").write_text(HARNESS_TASK)
    write_rows(workspace / "data/choice.jsonl", [{"prompt": "calibration row 3 about apples", "choices": [], "answer": 0}])
    with pytest.raises(DataError, match="this text is also calibrated on"):
        planned(edit_spec("    facts: {data: data/choice.jsonl, kind: choice}", "    mine: {lm_eval: mine.yaml}"))


def test_a_fault_of_a_task_file_names_the_spec_too(workspace: Path, edit_spec: Edit) -> None:
    (workspace / "mine.yaml").write_text(HARNESS_TASK + "process_docs: !function utils.steal\n")
    with pytest.raises(DataError, match=r"mine.yaml:9:15: !function is refused") as caught:
        planned(edit_spec("    facts: {data: data/choice.jsonl, kind: choice}", "    mine: {lm_eval: mine.yaml}"))
    assert f"(Named at {workspace}/quant.yml:11:12.)" in str(caught.value.remedy)


def test_presets_are_ordinary_candidates(edit_spec: Edit) -> None:
    plan = planned(edit_spec("{method: bitsandbytes, type: nf4}", "{preset: int8}"))
    assert plan.jobs[1].scheme == BitsandbytesScheme(method="bitsandbytes", type="int8")
    assert all(resolve_scheme(candidate) for candidate in PRESETS.values())


def release_of(workspace: Path) -> Path:
    """A folder with packed weights, as an engine leaves it."""
    folder = workspace / "v1.2.0"
    write_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    save_file({"model.layers.0.mlp.up_proj.qweight": np.zeros((8, 96), np.int32)}, folder / "model.safetensors")
    (folder / "quantize_config.json").write_text("{}")
    return folder


def test_the_release_is_part_of_the_plan_and_of_nothing_else(workspace: Path) -> None:
    loaded, folder = load_spec(workspace / "quant.yml"), release_of(workspace)
    first = make_plan(loaded, open_inputs(loaded), CPU)
    plan = make_plan(loaded, open_inputs(loaded, folder), CPU)
    assert first.release is None
    assert plan.release is not None
    assert (plan.release.source, plan.release.architecture) == ("v1.2.0", "LlamaForCausalLM")
    assert plan.release.digest == Manifest.of(folder).digest  # what its candidate record says of it
    assert plan.key != first.key
    assert (plan.baseline_key, plan.jobs) == (first.baseline_key, first.jobs)
    (folder / "README.md").write_text("nobody reads it")
    assert make_plan(loaded, open_inputs(loaded, folder), CPU) == plan
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert make_plan(loaded, open_inputs(loaded, folder), CPU).key != plan.key


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "v1.2.0: no such folder"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}'), "asks for code that comes with"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "has pickled weights only"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_a_release_that_must_not_be_loaded_is_bad_input(workspace: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = release_of(workspace)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        open_inputs(load_spec(workspace / "quant.yml"), folder)
    assert message in str(caught.value)
    assert caught.value.remedy == "--release takes the folder of what was released last: config, tokenizer and safetensors."


def test_what_is_measured_has_a_key_of_all_that_decides_it(workspace: Path, edit_spec: Edit) -> None:
    folder, candidate = release_of(workspace), CANDIDATES["bnb-nf4"]
    loaded = load_spec(workspace / "quant.yml")
    plan = make_plan(loaded, open_inputs(loaded, folder), CPU)
    keys = [plan.baseline_key, floor_key(plan), release_key(plan), evaluation_key(plan, candidate, 1)]
    assert len(set(keys)) == 4
    loaded = load_spec(edit_spec("evaluation:\n", "evaluation:\n  looks: [0.5, 1]\n"))
    other = make_plan(loaded, open_inputs(loaded, folder), CPU)
    assert [other.baseline_key, floor_key(other), release_key(other)] == keys[:3]
    assert len({keys[3], evaluation_key(other, candidate, 1), evaluation_key(other, candidate, 2)}) == 3
    loaded = load_spec(edit_spec("window: 16", "window: 8"))
    other = make_plan(loaded, open_inputs(loaded, folder), CPU)
    assert not {floor_key(other), release_key(other)} & set(keys)


def test_defaults_of_each_method() -> None:
    gptq = resolve_scheme(GptqCandidate(method="gptq", bits=4, act_order=False))
    awq = resolve_scheme(AwqCandidate(method="awq", bits=4))
    rtn = resolve_scheme(RtnCandidate(method="rtn", bits=8))
    assert isinstance(gptq, WeightScheme)
    assert (gptq.act_order, gptq.static_groups, gptq.group_size) == (False, False, 128)
    assert isinstance(awq, WeightScheme)
    assert (awq.scales, awq.symmetric, awq.clip) == ("awq", False, True)
    assert isinstance(rtn, WeightScheme)
    assert (rtn.scales, rtn.symmetric, rtn.clip) == (None, True, False)


def test_calibration_text_that_is_measured_on(workspace: Path) -> None:
    write_rows(workspace / "data/choice.jsonl", [{"prompt": "calibration row 3 about", "choices": [" apples", " pears"], "answer": 0}])
    write_rows(workspace / "data/calibration.jsonl", [{"text": "a"}, {"text": "calibration row 3 about apples pears"}])
    with pytest.raises(DataError) as caught:
        planned(workspace / "quant.yml")
    assert str(caught.value).replace(f"{workspace}/", "") == (
        "data/choice.jsonl:1: this text is also calibrated on (data/calibration.jsonl:2), so measuring on it would flatter every candidate"
    )


def test_bad_row_says_where_the_spec_names_its_file(workspace: Path) -> None:
    (workspace / "data/heldout.jsonl").write_text('{"text": "a"}\nnope\n')
    with pytest.raises(DataError, match=r"heldout\.jsonl:2: is not JSON") as caught:
        planned(workspace / "quant.yml")
    assert caught.value.remedy is not None
    assert caught.value.remedy.endswith("quant.yml:9:10.)")


def test_hub_id_without_commit(edit_spec: Edit) -> None:
    assert refusal(edit_spec("source: model", "source: acme/model")).startswith(
        "quant.yml:3:9: acme/model is not a folder here; a Hub id needs a revision beside it"
    )


def test_looks_are_part_of_the_plan_and_of_its_key(workspace: Path, edit_spec: Edit) -> None:
    one = planned(workspace / "quant.yml")
    three = planned(edit_spec("  tasks:", "  looks: [0.25, 0.5, 1]\n  tasks:"))
    assert (one.looks, three.looks) == ((1.0,), (0.25, 0.5, 1.0))
    assert one.key != three.key
    assert one.baseline_key == three.baseline_key


@pytest.mark.parametrize(
    ("latency", "cases"),
    [
        ("{decode: 8}", ["decode-8-b1"]),
        ("{prefill: [16, 8], batch: [4, 1]}", ["prefill-16-b4", "prefill-16-b1", "prefill-8-b4", "prefill-8-b1"]),
        ("{prefill: [64], decode: 32, batch: [1]}", ["prefill-64-b1", "decode-32-b1"]),
    ],
)
def test_what_is_timed_is_resolved(workspace: Path, edit_spec: Edit, latency: str, cases: list[str]) -> None:
    told_context(workspace)
    plan = planned(edit_spec("evaluation:\n", f"evaluation:\n  latency: {latency}\n"))
    assert plan.speed is not None
    assert [case.id for case in plan.speed.cases] == cases
    assert (plan.speed.prompt, plan.speed.pairs) == (32, (6, 12))
    assert Plan.from_json(plan.to_json(), where="plan") == plan


def test_a_gpu_is_timed_by_ten_pairs_at_least(edit_spec: Edit) -> None:
    plan = planned(edit_spec("evaluation:\n", "evaluation:\n  latency: {decode: 8}\n"), "NVIDIA H200")
    assert plan.speed is not None
    assert plan.speed.pairs == (10, 30)


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ("{prefill: [8, 65]}", "a prompt of 65 tokens is more than the model's context of 64"),
        ("{decode: 33}", "decoding 33 tokens after a prompt of 32 is more than the model's context of 64"),
    ],
)
def test_lengths_beyond_the_context_are_refused_where_they_stand(workspace: Path, edit_spec: Edit, latency: str, message: str) -> None:
    told_context(workspace)
    said = refusal(edit_spec("evaluation:\n", f"evaluation:\n  latency: {latency}\n"))
    assert said == f"quant.yml:9:13: {message} | Ask for fewer tokens."


def told_context(workspace: Path) -> None:
    config = json.loads((workspace / "model/config.json").read_text())
    (workspace / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
