"""Values that a shell, an engine, YAML, a template or a path could take for something else.

Most would touch the canary, a file that must never appear, if anything ever ran them.
"""

from pathlib import Path

TEMPLATES = (
    # for a shell
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY",
    "| touch CANARY",
    "& touch CANARY &",
    "&& touch CANARY #",
    "|| touch CANARY",
    "x\ntouch CANARY\n",
    "x\r\ntouch CANARY\r\n",
    "'; touch CANARY; '",
    '"; touch CANARY; "',
    "'\"'\"'; touch CANARY; '\"'\"'",
    "'$(touch CANARY)'",
    '"$(touch CANARY)"',
    "${x:-$(touch CANARY)}",
    "$((a[$(touch CANARY)]))",
    "a[$(touch CANARY)]",
    "<(touch CANARY)",
    "> CANARY",
    ">>CANARY",
    "\\",
    "x\\\ntouch CANARY",
    "EOF\ntouch CANARY\n",
    "!! $IFS ~ * ? {a,b}",
    "() { :; }; touch CANARY",
    # for an option of a command
    "--wrap=touch CANARY",
    "-o CANARY",
    "--output=CANARY",
    "--export=ALL,X=$(touch CANARY)",
    "--",
    "--help",
    "-rf",
    # for Slurm's batch script
    '#SBATCH --wrap="touch CANARY"',
    "x\n#SBATCH --output=CANARY",
    "%j %x %N %% %s",
    "a,b=c:d",
    # for YAML and templates
    '!!python/object/apply:os.system ["touch CANARY"]',
    '!!python/object/new:os.system ["touch CANARY"]',
    '!!python/object/apply:subprocess.check_output [["touch", "CANARY"]]',
    "*alias",
    "&anchor x",
    "{{ ''.__class__ }} {0.__class__}",
    "${oc.env:HOME}",
    "${path.choose:CANARY}",
    "$(HOME) $$(HOME)",
    '"}], "x": [{"',
    "x' OR 1=1; --",
    "<script>alert(1)</script>",
    # for a page
    "<img src=http://canary.invalid/x.png onerror=alert(1)>",
    "![x](http://canary.invalid/x.png)",
    "[x](javascript:alert(1))",
    "```\n\n![x](http://canary.invalid/x.png)\n\n",
    "</td></tr></table><iframe src=http://canary.invalid></iframe>",
    # for a path
    "../../../../../../../../CANARY",
    "CANARY",
    "/../CANARY",
    "a/../../b",
    "..",
    ".",
    "~root/x",
    "file:///CANARY",
    # for an eye, or a terminal
    "x\0touch CANARY",
    "\x1b[2J\x1b]0;x\x07",
    "\x9b2J\x9d0;x\x9c",
    "[/bold] [link=http://canary.invalid]x[/link] [red]",
    "x\u2028touch CANARY",
    "dem\u043e",  # a Cyrillic o
    "\uff44emo",  # a wide d
    "de\u200bmo",  # a space of no width
    "\u202eomed",  # written from right to left
    "\u2066x\u2069\u061c\u200f",  # other marks of direction
    "",
    " ",
    "\t",
    # for a buffer
    "A" * 10_000,
    "$(touch CANARY)" * 500,
    "../" * 4_000,
)


def hostile(canary: Path) -> list[str]:
    """The values, with the file that a command in them would touch."""
    return [template.replace("CANARY", str(canary)) for template in TEMPLATES]
