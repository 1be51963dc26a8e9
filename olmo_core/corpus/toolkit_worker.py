"""Run prepared steps of the dolma toolkit; this file runs in the toolkit's own environment.

`toolkit.py` starts it as `python -I toolkit_worker.py`. It reads a plan from stdin, imports the
toolkit once, and forks one process per step. Steps of one stage run side by side; it prints the
name of each that has ended. A step that fails ends the plan, with the end of its log. Nothing of
this project is used.
"""

import ctypes
import importlib
import importlib.util
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_TAIL_LINES = 15


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_step(step: dict[str, Any], parent: int) -> None:
    """Run one step with the toolkit's own entry points, its output in its log."""
    die_with_parent(parent)
    log = os.open(f"log/{step['name']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kind, config = step["kind"], step["config"]
    if kind == "tag":
        runtime = importlib.import_module("dolma.core.runtime")
        # debug: in this process; the toolkit would spawn a pool that imports everything again.
        runtime.create_and_run_tagger(**config, num_processes=1, debug=True)
    else:  # named as the toolkit names it
        getattr(importlib.import_module("dolma"), kind)(config)


def run_stage(steps: list[dict[str, Any]], processes: int) -> None:
    """Run the steps of a stage, at most `processes` at once, and print the name of each that ended.

    Raises:
        SystemExit: a step failed, with the end of its log.
    """
    fork = multiprocessing.get_context("fork")
    waiting = list(steps)
    running: dict[Any, BaseProcess] = {}  # by what tells that it has ended
    try:
        while running or waiting:
            while waiting and len(running) < processes:
                step = waiting.pop(0)
                process = fork.Process(target=run_step, args=(step, os.getpid()), name=step["name"])
                process.start()
                running[process.sentinel] = process
            for ended in multiprocessing.connection.wait(list(running)):
                process = running.pop(ended)
                process.join()
                if process.exitcode != 0:
                    # Made here where the step ended before it could.
                    with open(f"log/{process.name}.log", "a+", errors="replace") as log:
                        log.seek(0)
                        tail = "".join(log.readlines()[-LOG_TAIL_LINES:])
                    sys.exit(f"dolma step {process.name} exited {process.exitcode}:\n{tail}")
                print(process.name, flush=True)
    finally:
        # After an error none is left at work: this process would wait for them.
        for process in multiprocessing.active_children():
            process.kill()


def refuse_taken(names: list[str]) -> None:
    """Refuse names under which there are taggers: the toolkit keeps the first, and says nothing.

    Raises:
        SystemExit: such a name.
    """
    registry = importlib.import_module("dolma.core.registry").TaggerRegistry
    for name in names:
        if registry.has(name):
            sys.exit(
                f"tagged: there is a tagger {name!r} already, of dolma's own or of a file in "
                "own_taggers; choose another name"
            )


def register_own(files: dict[str, str]) -> None:
    """Run users' files, each once, which register taggers.

    Args:
        files: Name of a tagger -> the file that registers it.

    Raises:
        SystemExit: a name that its file does not register.
    """
    registry = importlib.import_module("dolma.core.registry").TaggerRegistry
    for number, path in enumerate(sorted(set(files.values()))):
        spec: Any = importlib.util.spec_from_file_location(f"own_taggers_{number}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    for name, path in files.items():
        if not registry.has(name):
            sys.exit(f"{path}: registers no tagger {name!r}; expected @add_tagger({name!r})")


def register_fasttext(name: str, model: str, labels: list[str], unit: str) -> None:
    """Register a tagger that gives a span per label, with the probability of the label.

    Raises:
        SystemExit: the model has no such label, or none that can be part of an attribute's name.
    """
    fasttext: Any = importlib.import_module("dolma.core.ft_tagger")
    registry = importlib.import_module("dolma.core.registry").TaggerRegistry
    classifier = fasttext._FastText(model)
    known = {label.removeprefix("__label__"): label for label in classifier.get_labels()}
    wanted = labels or sorted(known)
    usable = {label for label in known if label.replace("_", "").isalnum()}
    wrong = sorted(set(wanted) - usable)
    if wrong:
        sys.exit(
            f"{model}: labels {wrong} cannot be used; expected some of {sorted(usable)}, of "
            "letters, digits and _"
        )

    class Tagger(fasttext.BaseFastTextTagger):
        def __init__(self) -> None:
            self.classifier, self.mode = classifier, unit

        def predict_slice(self, text_slice: Any) -> Any:
            """Yield the probability of each label that is wanted."""
            # The model takes one line; beyond its labels' last, a probability is not told.
            found, scores = classifier.predict(text_slice.text.replace("\n", " "), k=-1)
            by_label = dict(zip(found, map(float, scores), strict=True))
            for label in wanted:  # rounding may take a probability above 1
                score = min(1.0, max(0.0, by_label.get(known[label], 0.0)))
                yield fasttext.Prediction(label, score)

    registry.add(name)(Tagger)


def main() -> None:
    """Read the plan, import the toolkit once, run the stages in order."""
    plan = json.load(sys.stdin)
    die_with_parent(plan["parent"])
    os.chdir(plan["folder"])
    # The import downloads punkt unless a folder of that name is found; no step here uses it.
    os.makedirs("nltk_data/tokenizers/punkt", exist_ok=True)
    os.environ["NLTK_DATA"] = os.path.abspath("nltk_data")
    # After NLTK_DATA is set, before the forks, which share what was imported and loaded.
    importlib.import_module("dolma.core.runtime")
    own, fasttext = (plan["taggers"].get(key, {}) for key in ("own", "fasttext"))
    refuse_taken([*own, *fasttext])
    register_own(own)
    refuse_taken([*fasttext])  # a file may register more than it is named for
    for name, asked in fasttext.items():
        register_fasttext(name, **asked)

    for stage in plan["stages"]:
        run_stage(stage, plan["processes"])


if __name__ == "__main__":
    main()
