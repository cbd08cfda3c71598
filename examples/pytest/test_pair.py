"""Run it by: steading run pair.toml -- python3 -m pytest"""

import os
import socket
import subprocess

import pytest

GUESTS = ["n1", "n2"]


def steading(*words):
    """Runs a command of Steading's. What it prints; an error if it fails."""
    return subprocess.run(["steading", *words], check=True, text=True, stdout=subprocess.PIPE).stdout


def run_in(vm, command):
    """Runs a shell command as root in a guest. What it prints; an error if it fails."""
    return steading("exec", vm, command)


def address_of(vm):
    return os.environ["STEADING_VM_" + vm.upper()]


@pytest.fixture(scope="session", autouse=True)
def guests_that_are_up():
    """When pytest begins, guests have only been started."""
    for vm in GUESTS:
        steading("wait", vm)


@pytest.mark.parametrize("vm", GUESTS)
def test_a_guest_is_reached_from_here(vm):
    with socket.create_connection((address_of(vm), 22), timeout=30) as connection:
        assert connection.recv(4) == b"SSH-"


def test_guests_reach_each_other():
    run_in("n1", "ping -c 1 " + address_of("n2"))


def test_a_file_survives_the_loss_of_power():
    run_in("n1", "echo precious >/root/file && sync")
    steading("kill", "n1")
    steading("start", "n1")
    steading("wait", "n1")
    assert run_in("n1", "cat /root/file") == "precious\n"
