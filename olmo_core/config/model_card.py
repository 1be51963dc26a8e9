"""Section `model_card` of a recipe, and the identifiers that the hub knows. Free of a network."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from olmo_core.config.load import nearest

# https://huggingface.co/docs/hub/repositories-licenses
_LICENCES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research
    intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
    openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown other
"""
# ISO 639-1
_LANGUAGES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
    id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
    lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
    ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
    tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LICENCES, LANGUAGES = frozenset(_LICENCES.split()), frozenset(_LANGUAGES.split())
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ModelCardConfig:
    """What a model card says that the run folders cannot know.

    Raises:
        ValueError: an identifier that the hub does not know, or a required key without a value.
    """

    title: str
    # The recipe whose model the texts are true of. In a copy or a variant it names another one, and
    # the card leaves the texts out.
    written_for: str = ""
    language: tuple[str, ...] = ("en",)  # ISO 639-1
    license: str = "apache-2.0"  # an identifier of the hub
    license_name: str | None = None  # with `license: other`
    license_link: str | None = None  # with `license: other`: an address, or LICENSE
    license_file: str = ""  # its text, pushed as LICENSE; ~ and ${VARIABLES} are expanded
    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()  # ORGANISATION/NAME of datasets on the hub
    base_model: str | None = None  # ORGANISATION/NAME of the model that training began with
    description: str = ""  # a paragraph below the title
    intended_use: str = ""
    limitations: tuple[str, ...] = ()  # one sentence each, beside those that follow from results
    hardware: str = ""  # what the models were trained on
    citation: str = ""  # BibTeX

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError("title: empty; expected the model's name")
        _require("license", [self.license], LICENCES, "an identifier of the hub's list")
        _require("language", self.language, LANGUAGES, "a code of ISO 639-1, as in en")
        if not self.language:
            raise ValueError("language: empty; expected codes of ISO 639-1, as in [en]")
        if self.license == "other" and not self.license_name:
            raise ValueError("license_name: missing; the hub wants one with `license: other`")
        for key in ("license_name", "license_link"):
            if getattr(self, key) is not None and self.license != "other":
                raise ValueError(f"{key}: only `license: other` has one, not {self.license!r}")
        for key, names in (("datasets", self.datasets), ("base_model", (self.base_model,))):
            for name in names:
                if name is not None and not _REPOSITORY.fullmatch(name):
                    raise ValueError(f"{key}: {name!r} is not ORGANISATION/NAME")


def _require(key: str, found: Iterable[str], known: Collection[str], expected: str) -> None:
    for value in found:
        if value not in known:
            meant = nearest(value, sorted(known))
            raise ValueError(f"{key}: {value!r}: expected {expected}; {meant}")
