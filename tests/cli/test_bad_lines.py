"""Command lines that were damaged at random: one line that names the mistake and exit status 2, or the work is begun.

The functions that do the work of a command are replaced, so that only its words are read.
"""

import random
from importlib import import_module

import pytest
from runs import make_run

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.errors import UserError

WORK = {
    "train": ("train", "train_folds"),
    "evaluate": ("evaluate",),
    "apply": ("apply_run",),
    "sample": ("load",),
    "turing": ("load", "score_answers"),
    "study": ("study", "downstream"),
    "reproduce": ("reproduce",),
}
"""Command to the functions that do its work."""
LINES = """
train wgan-vgg --out r --preset small --rounds 3 --batch-size 2 --views 60 --variant wgan --window -160 240
train pix2pix --out r --source mr --target ct --ct.window -160 240 --ct.unit HU --roles mr=*_mr.nii ct=*_ct.nii
train dcgan --out r --preset small --classes a b --size 32 32 --images x --x.channels 3 --folds 5 --fold 1
train anogan --out r --test-subjects a b --frames ed=0 es=9 --slope 2 --intercept -1024 --unit HU --pixel-mm 0.5
evaluate gen --against gen --which last --out e --ratings r.csv --names --device cpu --features random
apply gen in.nii.gz out.nii.gz --which best --device cpu --format nifti --seed 3 --overwrite --slope 1
apply gen t1=a.nii t2=b.nii --out o --ensemble gen gen --frames all --resample-to t1
sample gen --out o -n 3 --seed 4 --truncation 0.5 --format npy --which last
turing build gen --out o --images 10 --raters 2 --filter none --seed 1
turing score o a.csv b.json --margin 0.2
study dcgan --out o --preset small --label-fraction 0.1 0.5 1 --against gan baseline --folds 5 --seeds 2
reproduce wgan-vgg --out o --seeds 2 --rounds 3 --preset small --threads 1 --device cpu
list *CT*
info wgan-vgg
"""
"""Lines that are right."""
STRANGE = [
    *(
        "",
        "-",
        "--",
        "-1",
        "-x",
        "--x=",
        "=",
        "--out=",
        "x:",
        ":",
        "a.py:B",
        "gen",
        "gen/run.yaml",
        "--help",
        "--preset=",
    ),
    *("[/b]", "[bold", "\0", "a\0b", "\udcff", "\n", "\t", "é", "😀", "nan", "inf", "1e999", "9" * 40, "9" * 5000),
    *(
        "None",
        "{}",
        "%s",
        "~nobody",
        "/dev/null",
        "..",
        "x" * 300,
        "/" + "x" * 5000,
        "--config",
        "--.x",
        "--image.window",
    ),
]
"""Words that take the place of others."""
SEED, TRIES = 20, 100


def damaged(draw, words):
    """Return a line with one or two words left out, repeated, exchanged, joined or replaced."""
    for _ in range(draw.choice((1, 1, 2))):
        at, other = draw.randrange(len(words)), draw.randrange(len(words))
        strange, word = draw.choice(STRANGE), words[at]
        place = draw.randrange(len(word) + 1)
        changed = [
            [*words[:at], *words[at + 1 :]],
            [*words[:at], words[other], *words[at:]],
            [*words[:at], strange, *words[at + 1 :]],
            [*words[: at + 1], strange, *words[at + 1 :]],
            [*words[:at], "=".join(words[at : at + 2]), *words[at + 2 :]],
            [*words[:at], word[:place] + strange + word[place:], *words[at + 1 :]],
            words[:at],
        ]
        words = draw.choice(changed) or [strange]
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("lines")
    make_run(place / "gen", "dcgan", catalogue.load("dcgan").Config.preset("small", width=4).model_dump(mode="json"))
    return place


@pytest.fixture
def said(folder, monkeypatch, capsys):
    """Return a function that runs a command without its work, and returns the exit status and what is printed."""
    monkeypatch.chdir(folder)

    def begin(*arguments, **options):
        raise UserError("the work is begun")

    for command, names in WORK.items():
        for name in names:
            monkeypatch.setattr(import_module(f"ganatomy.cli.{command}"), name, begin)

    def run(words):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_right_lines_begin_the_work(said, line):
    code, out, err = said(line.split())
    assert (code == 0 and out) or err.endswith("ganatomy: the work is begun\n")


def test_damaged_lines_are_told_in_one_line(said):
    draw, lines = random.Random(SEED), LINES.strip().splitlines()
    for _ in range(TRIES):
        words = damaged(draw, draw.choice(lines).split())
        code, out, err = said(words)
        assert code in (0, 2, None), words
        if code == 2:
            own = [line for line in err.splitlines() if line.startswith("ganatomy: ")]
            assert len(own) == 1 and err.endswith(own[0] + "\n") and not out, (words, err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "dcgan", "--out", "o", "--out", "p"], "--out: given twice"),
        (["train", "dcgan", "--out", "o", "--batch-size=2", "--batch_size", "3"], "--batch-size: given twice"),
        (["sample", "gen", "--out", "o", "-n", "3", "-n", "4"], "-n: given twice"),
        (["study", "9" * 5000, "--out", "o"], "99...: the name is too long"),
        (["evaluate", "x" * 300], "xx...: the name is too long"),
        (["info", "a\0b.py:X"], "a word of the command holds a null character"),
        (["reproduce", "wgan-vgg", "--threads", "0"], "option threads: input should be greater than or equal to 1"),
    ],
)
def test_words_that_once_were_tracebacks_or_ignored(said, words, told):
    code, out, err = said(words)
    assert code == 2 and told in err and err.count("\n") == 1 and not out
