"""Write the data files of the tiny-llama example, and generate the text that `train.py` trains on.

    python make_data.py          (standard library only; writes data/, always the same bytes)

The text describes a small invented world, line by line: facts about its towns, sentences whose verb must agree with a distant subject,
arithmetic, and short question-and-answer exercises (copy, reverse, sort, count, largest, and the facts again).

Every line belongs to exactly one split, chosen by a hash of what the line asks or states:

    train        generated while training, never written to a file
    calibration  data/calibration.jsonl   {"text"}
    heldout      data/heldout.jsonl       {"text"}
    items        data/choice.jsonl        {"prompt", "choices", "answer"}   and   data/generate.jsonl   {"prompt", "answer"}

So a sum that is asked in an evaluation occurs nowhere else, and a fact that is asked there is stated elsewhere only in other words.
`check` proves this on the files before they are written.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"

SEED = 20
CALIBRATION_ROWS = 256
HELDOUT_ROWS = 160
AGREEMENT_ITEMS = 150
FACT_CHOICE_ITEMS = 250
GENERATE_ITEMS = {"add": 80, "subtract": 60, "sort": 60, "count": 50, "reverse": 50, "copy": 30, "largest": 30, "fact": 40}

SHARES = {"train": 70, "calibration": 10, "heldout": 10, "items": 10}

# --- the invented world -------------------------------------------------------------------------------------------------------------

TOWN_HEADS = ["Bel", "Cor", "Dun", "Far", "Gol", "Hes", "Ilm", "Kes", "Lan", "Mar", "Nor", "Pel", "Ras", "Sul", "Tov", "Wes"]
TOWN_TAILS = ["anet", "bury", "combe", "dale", "ford", "gate", "holm", "ley", "mere", "owen", "stead", "wick"]
TOWNS = [head + tail for head in TOWN_HEADS for tail in TOWN_TAILS]

ATTRIBUTES: dict[str, list[str]] = {
    "region": ["Ambria", "Bastel", "Corvane", "Eldmark", "Ferness", "Ostrelle", "Silvane", "Tarnith"],
    "river": ["Avern", "Brinn", "Cassel", "Dorle", "Esker", "Fenna", "Lorne", "Mirr", "Quill", "Sarne", "Tamsel", "Wend"],
    "trade": ["amber", "barley", "candles", "copper", "glass", "honey", "leather", "paper", "salt", "silk", "timber", "wool"],
    "flag": ["black", "blue", "brown", "gold", "green", "purple", "red", "white"],
    "year": [str(year) for year in range(1000, 1900)],
    "post": [str(code) for code in range(100, 1000)],
}

# The value always comes last, so that every statement can be cut into a prompt and a choice.
STATEMENTS: dict[str, list[str]] = {
    "region": [
        "{town} lies in {value}.", "the town called {town} belongs to {value}.", "to visit {town} you travel to {value}.",
        "the people around {town} live in {value}.", "on the map, {town} is part of {value}.", "letters for {town} go by way of {value}.",
    ],
    "river": [
        "the river at {town} is the {value}.", "{town} stands beside the {value}.", "the mills of {town} are driven by the {value}.",
        "boats leave {town} on the {value}.", "the bridge at {town} crosses the {value}.", "children in {town} swim in the {value}.",
    ],
    "trade": [
        "{town} is known for its {value}.", "merchants buy from {town} its {value}.", "the market at {town} sells {value}.",
        "most families in {town} make {value}.", "carts from {town} carry {value}.", "the wealth of {town} comes from {value}.",
    ],
    "flag": [
        "the flag of {town} is {value}.", "over {town} flies a banner of {value}.", "the gates of {town} are painted {value}.",
        "the guards of {town} dress in {value}.", "on feast days {town} wears {value}.", "the colour chosen by {town} is {value}.",
    ],
    "year": [
        "{town} was founded in {value}.", "the first stone of {town} was laid in {value}.", "the oldest house in {town} is from {value}.",
        "settlers came to {town} in {value}.", "the charter of {town} was signed in {value}.", "{town} counts its age from {value}.",
    ],
    "post": [
        "the post code of {town} is {value}.", "write to {town} under {value}.", "parcels for {town} are marked {value}.",
        "the number of {town} is {value}.", "in the register {town} stands as {value}.", "road signs to {town} show {value}.",
    ],
}  # fmt: skip
QUESTIONS: dict[str, list[str]] = {
    "region": ["where is {town}", "which region holds {town}"],
    "river": ["which river passes {town}", "what water runs by {town}"],
    "trade": ["what does {town} sell", "which goods come from {town}"],
    "flag": ["what colour is the flag of {town}", "which colour stands for {town}"],
    "year": ["when was {town} founded", "how old is {town}"],
    "post": ["what is the post code of {town}", "which number has {town}"],
}

# Every noun class has verbs of its own, so a sentence can go wrong in number, in sense, or in both. All verbs take a plain -s.
NOUNS: dict[str, list[tuple[str, str]]] = {
    "animal": [("fox", "foxes"), ("owl", "owls"), ("wolf", "wolves"), ("mouse", "mice"), ("heron", "herons"), ("hare", "hares"),
               ("goose", "geese"), ("badger", "badgers")],
    "tool": [("hammer", "hammers"), ("knife", "knives"), ("bell", "bells"), ("lantern", "lanterns"), ("key", "keys"), ("plough", "ploughs"),
             ("kettle", "kettles"), ("anchor", "anchors")],
    "plant": [("rose", "roses"), ("willow", "willows"), ("fern", "ferns"), ("lily", "lilies"), ("thistle", "thistles"), ("oak", "oaks"),
              ("bean", "beans"), ("poppy", "poppies")],
    "water": [("brook", "brooks"), ("pond", "ponds"), ("spring", "springs"), ("lake", "lakes"), ("canal", "canals"), ("marsh", "marshes"),
              ("well", "wells"), ("pool", "pools")],
}  # fmt: skip
VERBS: dict[str, list[str]] = {
    "animal": ["sleep", "run", "sing", "hunt"],
    "tool": ["rust", "break", "shine", "rattle"],
    "plant": ["bloom", "grow", "wither", "sway"],
    "water": ["flow", "freeze", "flood", "murmur"],
}
ADJECTIVES = ["small", "old", "grey", "quiet", "bright", "broken", "famous", "wild", "strange", "heavy", "young", "pale", "large", "lost"]
RELATIONS = ["near", "behind", "above", "below", "beside", "beyond"]
PLACES = [("mill", "mills"), ("tower", "towers"), ("barn", "barns"), ("wall", "walls"), ("road", "roads"), ("chapel", "chapels"),
          ("garden", "gardens"), ("bridge", "bridges"), ("field", "fields"), ("cellar", "cellars")]  # fmt: skip
OPENINGS = ["at dawn,", "in winter,", "every evening,", "when the rain falls,", "after the harvest,", "on market days,"]
WORDS = [singular for nouns in NOUNS.values() for singular, _ in nouns]


@dataclass(frozen=True)
class Fact:
    town: str
    attribute: str
    value: str


def make_facts() -> list[Fact]:
    """The same world every time: it is part of the example, not of a run."""
    rng = random.Random("facts")
    return [Fact(town, attribute, rng.choice(values)) for town in TOWNS for attribute, values in ATTRIBUTES.items()]


FACTS = make_facts()


def split_of(key: str) -> str:
    """The split that owns a key: the same on every machine and in every run."""
    point = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % sum(SHARES.values())
    for split, share in SHARES.items():
        if point < share:
            return split
        point -= share
    raise AssertionError("the shares cover every point")


def split_statements() -> dict[str, list[tuple[Fact, str]]]:
    """Deal out the six wordings of every fact: three to train, one to each other split, different ones for different towns."""
    rng = random.Random("wordings")
    dealt: dict[str, list[tuple[Fact, str]]] = {split: [] for split in SHARES}
    for fact in FACTS:
        wordings = rng.sample(STATEMENTS[fact.attribute], 6)
        for split, wording in zip(["train", "train", "train", "calibration", "heldout", "items"], wordings, strict=True):
            dealt[split].append((fact, wording))
    return dealt


def split_questions() -> dict[str, list[tuple[Fact, str]]]:
    """Deal out the questions by hash; most of them go to train."""
    dealt: dict[str, list[tuple[Fact, str]]] = {split: [] for split in SHARES}
    for fact in FACTS:
        for wording in QUESTIONS[fact.attribute]:
            dealt[split_of(wording.format(town=fact.town))].append((fact, wording))
    return dealt


# --- lines --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """A question with one right answer."""

    question: str
    answer: str

    @property
    def prompt(self) -> str:
        return f"Q: {self.question}\nA:"

    @property
    def line(self) -> str:
        return f"{self.prompt} {self.answer}\n"


@dataclass(frozen=True)
class Agreement:
    """A sentence up to its verb, with the right verb first and three wrong ones after it."""

    subject: str
    verbs: tuple[str, str, str, str]


def join(values: list[int] | list[str]) -> str:
    return " ".join(str(value) for value in values)


class World:
    """Draws lines of one split; two worlds with the same split and seed draw the same lines."""

    def __init__(self, split: str, seed: int) -> None:
        self.split = split
        self.rng = random.Random(f"{split} {seed}")
        self.statements = split_statements()[split]
        self.questions = split_questions()[split]
        self.makers: dict[str, Callable[[], Exercise]] = {
            "add": self._add, "subtract": self._subtract, "sort": self._sort, "count": self._count,
            "reverse": self._reverse, "copy": self._copy, "largest": self._largest,
        }  # fmt: skip

    def exercise(self, kind: str) -> Exercise:
        """An exercise of this kind that belongs to this split."""
        if kind == "fact":
            fact, wording = self.rng.choice(self.questions)
            return Exercise(wording.format(town=fact.town), fact.value)
        while True:
            exercise = self.makers[kind]()
            if split_of(exercise.question) == self.split:
                return exercise

    def _add(self) -> Exercise:
        a, b = self.rng.randrange(100), self.rng.randrange(100)
        return Exercise(f"{a} + {b}", str(a + b))

    def _subtract(self) -> Exercise:
        b, a = sorted((self.rng.randrange(100), self.rng.randrange(100)))
        return Exercise(f"{a} - {b}", str(a - b))

    def _sort(self) -> Exercise:
        numbers = self.rng.sample(range(100), self.rng.randint(3, 4))
        return Exercise(f"sort {join(numbers)}", join(sorted(numbers)))

    def _count(self) -> Exercise:
        start, step, length = self.rng.randrange(60), self.rng.randint(1, 9), self.rng.randint(3, 5)
        return Exercise(f"count {length} from {start} by {step}", join([start + step * i for i in range(length)]))

    def _reverse(self) -> Exercise:
        words = self.rng.sample(WORDS, self.rng.randint(3, 5))
        return Exercise(f"reverse {join(words)}", join(words[::-1]))

    def _copy(self) -> Exercise:
        words = self.rng.sample(WORDS, self.rng.randint(3, 5))
        return Exercise(f"copy {join(words)}", join(words))

    def _largest(self) -> Exercise:
        numbers = self.rng.sample(range(100), self.rng.randint(3, 5))
        return Exercise(f"largest of {join(numbers)}", str(max(numbers)))

    def agreement(self) -> Agreement:
        """A subject of this split; the noun between subject and verb may differ in number, to mislead."""
        rng = self.rng
        while True:
            kind, plural = rng.choice(list(NOUNS)), rng.randrange(2)
            noun, place = rng.choice(NOUNS[kind])[plural], rng.choice(PLACES)[rng.randrange(2)]
            subject = f"the {rng.choice(ADJECTIVES)} {noun} {rng.choice(RELATIONS)} the {rng.choice(ADJECTIVES)} {place}"
            if split_of(subject) == self.split:
                break
        verb, stranger = rng.choice(VERBS[kind]), rng.choice(VERBS[rng.choice([other for other in VERBS if other != kind])])
        right, wrong = ("", "s") if plural else ("s", "")
        return Agreement(subject, (verb + right, verb + wrong, stranger + right, stranger + wrong))

    def line(self) -> str:
        """One line of running text."""
        rng = self.rng
        kind = rng.choices(["sentence", "statement", "sum", "fact", "exercise"], [16, 36, 8, 14, 26])[0]
        if kind == "sentence":
            agreement = self.agreement()
            opening = rng.choice(OPENINGS) + " " if rng.random() < 0.4 else ""
            return f"{opening}{agreement.subject} {agreement.verbs[0]}.\n"
        if kind == "statement":
            fact, wording = rng.choice(self.statements)
            return wording.format(town=fact.town, value=fact.value) + "\n"
        if kind == "sum":
            exercise = self.exercise(rng.choice(["add", "subtract"]))
            return f"{exercise.question} = {exercise.answer}.\n"
        if kind == "fact":
            return self.exercise("fact").line
        return self.any_exercise().line

    def any_exercise(self) -> Exercise:
        kinds = {"add": 6, "subtract": 5, "sort": 3, "count": 3, "reverse": 3, "copy": 2, "largest": 2, "fact": 3}
        return self.exercise(self.rng.choices(list(kinds), list(kinds.values()))[0])

    def document(self) -> str:
        """Several lines of mixed text."""
        return "".join(self.line() for _ in range(self.rng.randint(9, 14)))


def training_documents(seed: int) -> Iterator[str]:
    """Endless training text: mixed text, and single exercises as a chat would ask them."""
    world = World("train", seed)
    while True:
        yield world.document() if world.rng.random() < 0.6 else world.any_exercise().line


# --- files --------------------------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def text_rows(split: str, count: int) -> list[Row]:
    world = World(split, SEED)
    return [{"text": world.document()} for _ in range(count)]


def choice_rows() -> list[Row]:
    world, rng = World("items", SEED), random.Random(SEED)
    questions: list[tuple[str, list[str]]] = []
    for fact, wording in rng.sample(world.statements, FACT_CHOICE_ITEMS):
        others = [value for value in ATTRIBUTES[fact.attribute] if value != fact.value]
        prompt = wording.format(town=fact.town, value="").removesuffix(" .")
        questions.append((prompt, [fact.value, *rng.sample(others, 3)]))
    agreements = {agreement.subject: agreement for agreement in (world.agreement() for _ in range(2 * AGREEMENT_ITEMS))}
    questions += [(each.subject, list(each.verbs)) for each in itertools.islice(agreements.values(), AGREEMENT_ITEMS)]
    rng.shuffle(questions)
    rows = []
    for prompt, choices in questions:
        order = rng.sample(range(4), 4)
        rows.append({"prompt": prompt, "choices": [f" {choices[i]}." for i in order], "answer": order.index(0)})
    return rows


def generate_rows() -> list[Row]:
    world, rows = World("items", SEED + 1), []
    for kind, count in GENERATE_ITEMS.items():
        exercises: dict[str, Exercise] = {}
        while len(exercises) < count:
            exercise = world.exercise(kind)
            exercises[exercise.prompt] = exercise
        rows += [{"prompt": each.prompt, "answer": each.answer} for each in exercises.values()]
    world.rng.shuffle(rows)
    return rows


def evaluation_lines() -> set[str]:
    """Lines that must not be trained on: those of the held-out text, and the items with their right answers."""
    lines = {line for row in text_rows("heldout", HELDOUT_ROWS) for line in pieces(row["text"])}
    lines |= {row["prompt"] + row["choices"][row["answer"]] + "\n" for row in choice_rows()}
    lines |= {f"{row['prompt']} {row['answer']}\n" for row in generate_rows()}
    return lines


def pieces(text: str) -> list[str]:
    """Cut text into its lines, a question and its answer kept together."""
    lines = text.splitlines(keepends=True)
    return [line + (lines[i + 1] if line.startswith("Q: ") else "") for i, line in enumerate(lines) if not line.startswith("A: ")]


def check(files: dict[str, list[Row]]) -> None:
    """Refuse files that share a line, or that hold an evaluation prompt inside their text."""
    calibration, heldout = ("".join(row["text"] for row in files[name]) for name in ("calibration", "heldout"))
    if shared := set(pieces(calibration)) & set(pieces(heldout)):
        raise SystemExit(f"calibration and heldout share {len(shared)} lines, such as {min(shared)!r}")
    prompts = [row["prompt"] for name in ("choice", "generate") for row in files[name]]
    if len(set(prompts)) != len(prompts):
        raise SystemExit("an evaluation prompt occurs twice")
    sample = "".join(itertools.islice(training_documents(SEED), 2000))
    for name, text in (("calibration", calibration), ("heldout", heldout), ("training", sample)):
        if found := [prompt for prompt in prompts if prompt in text]:
            raise SystemExit(f"{len(found)} evaluation prompts occur in the {name} text, such as {found[0]!r}")


def main() -> None:
    files = {
        "calibration": text_rows("calibration", CALIBRATION_ROWS),
        "heldout": text_rows("heldout", HELDOUT_ROWS),
        "choice": choice_rows(),
        "generate": generate_rows(),
    }
    check(files)
    DATA.mkdir(exist_ok=True)
    for name, rows in files.items():
        path = DATA / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")
        print(f"{path.relative_to(HERE)}: {len(rows)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
