"""Ports: declared, picked, remembered, taken."""

import json
import os
import socket

import pytest
from conftest import make_consortium, simulate

from ftl.consortium import load
from ftl.errors import ServiceError
from ftl.federation import claim, holder, ports


@pytest.fixture
def folder(tmp_path):
    return make_consortium(tmp_path, simulate(("bank", "partner"), 20))


def declare(folder, **declared):
    path = folder.root / "consortium.yaml"
    text = json.loads(path.read_text())
    text["coordinator"] = declared
    path.write_text(json.dumps(text))
    return load(folder.root)


@pytest.fixture
def listener():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_picked_ports_differ_and_are_remembered(folder):
    chosen = ports(folder)
    assert set(chosen) == {"federation", "admin", "mlflow", "airflow", "gateway", "score-bank", "score-partner"}
    assert len(set(chosen.values())) == 7
    assert ports(folder) == chosen
    assert claim(folder, chosen) == chosen


def test_a_declared_port_is_taken_as_it_is_and_keeps_the_others(folder):
    before = ports(folder)
    after = ports(declare(folder, gateway_port=48321))
    assert after == {**before, "gateway": 48321}


def test_a_declared_port_that_is_taken_is_refused_with_the_name_of_its_holder(folder, listener):
    busy = declare(folder, mlflow_port=listener)
    with pytest.raises(ServiceError, match=rf"Port {listener} for mlflow is taken by .+ \(process {os.getpid()}: "):
        claim(busy, ["mlflow", "gateway"])
    assert claim(busy, ["gateway"])["mlflow"] == listener


def test_a_picked_port_that_is_taken_is_replaced_and_no_other(folder, listener):
    before = ports(folder)
    remembered = folder.coordinator / "ports.json"
    remembered.write_text(json.dumps({**before, "federation": listener}))
    after = claim(folder, ["federation"])
    assert after["federation"] != listener
    assert {**after, "federation": 0} == {**before, "federation": 0}
    assert ports(folder) == after


def test_the_holder_of_a_free_port_is_nobody_we_can_see(folder):
    assert holder(ports(folder)["gateway"]) == "another process (not visible to this user)"
