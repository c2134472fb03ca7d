"""Which reasons a version may name, in which languages, and what its gate and its card are told by the consortium."""

from pathlib import Path
from string import Template

import msgspec
import pytest
import yaml
from pydantic import ValidationError
from test_registry_runs import consortium, result

from ftl import registry
from ftl.consortium import Consortium, Folder, scenarios
from ftl.consortium.deciding import Gate
from ftl.consortium.model import Features
from ftl.federation.run import Group
from ftl.registry.card import card
from ftl.registry.gate import gate
from ftl.registry.lineage import lineage

SCENARIOS = Path(scenarios.__file__).parent


def changed(**bank: object) -> Consortium:
    plain = consortium().model_dump(mode="json", by_alias=True, exclude_unset=True)
    plain["parties"]["bank"]["features"] |= bank
    return Consortium.model_validate(plain)


def test_a_proxy_is_never_named_whatever_reason_it_has(tmp_path):
    folder = Folder(tmp_path, changed(proxies=["amount"]))
    assert registry.build_bundle(folder, result(folder, "run-1")).texts() == {}
    assert folder.consortium.parties["bank"].features.named == {}


def test_education_stands_for_a_protected_attribute_and_the_taiwan_consortium_never_names_it():
    text = Template((SCENARIOS / "taiwan.yaml").read_text()).safe_substitute(seed=0, notice="simulated")
    features = Features.model_validate(yaml.safe_load(text)["parties"]["partner"]["features"])
    assert features.reasons["education"].code == "P01"
    assert "P01" not in {reason.code for reason in features.named.values()}
    assert not {"sex", "marriage", "age", "education"} & features.named.keys()


def test_a_reason_comes_in_both_languages_where_the_file_has_both(tmp_path):
    reasons = {"amount": {"code": "AMT", "text": "The amount is high", "text_zh": "金额较高"}}
    folder = Folder(tmp_path, changed(reasons=reasons))
    bundle = registry.build_bundle(folder, result(folder, "run-1"))
    assert bundle.texts()["AMT"] == "The amount is high"
    assert bundle.texts_zh() == {"AMT": "金额较高"}
    assert registry.decode_bundle(registry.encode_bundle(bundle), "here") == bundle


def test_the_consortium_sets_what_a_version_must_reach(tmp_path):
    done = result(Folder(tmp_path, consortium()), "run-1")
    assert gate(done, {}, Gate(least={"auc": 0.78, "ks": 0.4})).passed
    refused = gate(done, {}, Gate(least={"auc": 0.79}))
    assert refused.why == "Refused: auc is 0.7800, at least 0.7900 is needed."
    assert gate(done, {"auc": 0.80}, Gate(below_champion=0.03)).passed
    assert not gate(done, {"auc": 0.80}, Gate(below_champion=0.01)).passed
    with pytest.raises(ValidationError, match="acu"):
        Gate(least={"acu": 0.7})


def test_the_card_compares_groups_and_says_what_each_party_allows(tmp_path):
    plain = consortium().model_dump(mode="json", by_alias=True, exclude_unset=True)
    plain["parties"]["bank"]["grant"] = "to score applicants, agreed by the board on 2026-01-05"
    folder = Folder(tmp_path, Consortium.model_validate(plain))
    rate = (0.75, 0.7, 0.8)
    group = Group("sex", "f", 120, rate, rate, rate)
    done = msgspec.structs.replace(result(folder, "run-1"), groups=[group])
    text = card(folder.consortium, done, lineage(done, {"bank": "people", "partner": "people"}), "Passed.")
    told = "0.750 (0.700 to 0.800)"
    assert f"| sex | f | 120 | {told} | {told} | {told} |" in text
    assert "| bank | to score applicants, agreed by the board on 2026-01-05 |" in text
    assert "| partner | amount | none |" in text
