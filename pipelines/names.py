"""What may stand in the names that engines, shells and file systems get to see.

A name that does not fit is refused here, with what would be right: nothing is quoted, cut or
replaced silently. The one exception is a Kubernetes name, which is cut to what a label may hold;
the run folder's key in it keeps it apart from all others.
"""

import re
from dataclasses import dataclass

from assets.recipe import NAME
from olmo_core.errors import ConfigError

KEY_LENGTH = 12  # of the run folder's key, as far as a job's name shows it
LABEL_LENGTH = 63  # Kubernetes' most, of a label and of a pod's host name
INDEX_LENGTH = 18  # `-node-0-<pod>-<5 letters>`, what Kubeflow adds to a job's name: 9,999 pods
SHOWN_LENGTH = 60  # of a refused value in a message
MOST_VALUE_LENGTH = 4096  # of a free text: an environment variable, a path

_KEY = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Kind:
    """A kind of name: what it may look like, and how a message says so."""

    pattern: str
    right: str  # continues "expected"
    is_path: bool = False  # then no part of it may be `..`
    is_hidden: bool = False  # no message shows a refused value: a secret in the wrong place


_TOKEN = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"
_PATH = r"/[A-Za-z0-9_.,:@+=~/-]{0,1023}"
_FOLDER = r"/[A-Za-z0-9_.@+=~/-]{0,1023}"  # no colon and no comma, which part mounts
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LABEL_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"

TOKEN = Kind(_TOKEN, "one name of letters, digits and _ . + - (at most 64), as in gpu_long")
TOKENS = Kind(
    rf"{_TOKEN}(?:,{_TOKEN}){{0,31}}",
    "names of letters, digits and _ . + -, with commas and no spaces, as in gpu,gpu_long",
)
CONSTRAINT = Kind(
    r"[A-Za-z0-9\[(][A-Za-z0-9_.+*&|,:\[\]()-]{0,255}",
    "Slurm's features joined by & | , and brackets, without spaces, as in a100&ib",
)
MODULE = Kind(
    r"[A-Za-z0-9][A-Za-z0-9_.+@=:/-]{0,255}",
    "a module's name and version, as in cuda/12.4",
    is_path=True,
)
IMAGE = Kind(
    r"(?:[a-z]+://)?[A-Za-z0-9/][A-Za-z0-9_.:@#+=/-]{0,511}",
    "an image or an absolute path, as in registry.example.org/team/olmo:1.0",
    is_path=True,
)
MOUNT = Kind(
    rf"{_FOLDER}:{_FOLDER}(?::(?:ro|rw))?",
    "SOURCE:TARGET, both absolute, with :ro to forbid writing, as in /scratch:/scratch:ro",
    is_path=True,
)
ABSOLUTE = Kind(
    _PATH, "an absolute path of letters, digits and _ . , : @ + = ~ - / without ..", is_path=True
)
PROGRAM = Kind(
    rf"{_PATH}|[A-Za-z0-9_][A-Za-z0-9_.+-]{{0,63}}",
    "a program's name or absolute path, as in /opt/olmo/bin/python",
    is_path=True,
)
VARIABLE = Kind(
    r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable: letters, digits and _"
)
SECRETS_VARIABLE = Kind(
    VARIABLE.pattern,
    "the name of the environment variable that holds the secret, which belongs in no file",
    is_hidden=True,
)
VALUE = Kind(
    rf"[^\x00-\x1f\x7f\u0085\u2028\u2029]{{0,{MOST_VALUE_LENGTH}}}",
    f"one line of at most {MOST_VALUE_LENGTH:,} characters, without control characters",
)
DNS_LABEL = Kind(_DNS_LABEL, "small letters, digits and - (at most 63), as in team-lm")
DNS_NAME = Kind(
    rf"(?=.{{1,253}}\Z){_DNS_LABEL}(?:\.{_DNS_LABEL})*",
    "small letters, digits, - and . (at most 253), as in results-v1",
)
DASK_ADDRESS = Kind(
    r"(?:tls|tcp)://[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[0-9]{1,5}",
    "the address of a Dask scheduler, as in tls://scheduler.example.org:8786",
)
CONTEXT = Kind(
    r"[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,252}",
    "a context of the kubeconfig: letters, digits and _ . : @ / + -",
)
LABEL_NAME = Kind(
    rf"(?:(?=[^/]{{1,253}}/){_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?(?!\Z){_LABEL_VALUE}",
    "a Kubernetes label, as in example.org/accelerator",
)
LABEL_VALUE = Kind(
    _LABEL_VALUE,
    "a label's value: letters, digits and _ . - (at most 63), with a letter or digit at either end",
)


def refusal(value: object, kind: Kind) -> str | None:
    """Return why a value is no such name; None if it is one."""
    if isinstance(value, str) and re.fullmatch(kind.pattern, value):
        if kind.is_path and ".." in re.split("[/:]", value):
            return f"found {shown(value)}; .. may not be part of it"
        return None
    found = "something else, which is not shown" if kind.is_hidden else shown(value)
    return f"found {found}; expected {kind.right}"


def shown(value: object) -> str:
    """Return a refused value as a message shows it: on one line, escaped, never 10,000 letters."""
    text = ascii(value)
    if len(text) <= SHOWN_LENGTH:
        return text
    return f"{text[:SHOWN_LENGTH]}… ({len(str(value)):,} characters)"


def job_name(recipe: str, asset: str, key: str, attempt: int) -> str:
    """Return `olmo.<recipe>.<asset>.<key>.<attempt>`, a job's name in an engine's queue.

    Raises:
        ConfigError: a part of it could mean something else to a shell, an engine or a path.
    """
    for what, name in (("recipe", recipe), ("asset", asset)):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{what} {shown(name)}: a job's name takes a letter, then letters, digits and _ "
                "(at most 63)"
            )
    if not _KEY.fullmatch(key):
        raise ConfigError(f"claim.json: key: found {shown(key)}; expected 12 to 64 hex digits")
    if not 1 <= attempt < 10**9:
        raise ConfigError(f"claim.json: attempt: found {attempt}; expected a number from 1 on")
    return f"olmo.{recipe}.{asset}.{key[:KEY_LENGTH]}.{attempt}"


def kubernetes_name(recipe: str, asset: str, key: str, attempt: int) -> str:
    """Return the same as a DNS label that leaves room for what Kubernetes adds for each pod.

    Recipe and asset are cut where they are too long: the key keeps the name unique.

    Raises:
        ConfigError: as for `job_name`.
    """
    *words, short_key, number = job_name(recipe, asset, key, attempt).split(".")
    end = f"-{short_key}-{number}"
    words = "-".join(words).replace("_", "-").lower()
    return words[: LABEL_LENGTH - INDEX_LENGTH - len(end)].rstrip("-") + end
