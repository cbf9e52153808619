# SPDX-License-Identifier: Apache-2.0
"""Every check of NHC has a TOML form, and over the same facts both find the same."""

import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import memory, registry
from refloat_checks.facts import Facts
from refloat_checks.hardware import IbPort, Infiniband, Memory, Processors
from refloat_checks.infiniband import Port
from refloat_checks.mount_faults import Mounted
from refloat_checks.nhc import words
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.nhc.forms.form import NoForm
from refloat_checks.nhc.forms.table import ALL, convert, toml
from refloat_checks.nhc.native import NhcRun
from refloat_checks.nhc.registry import find, names
from refloat_checks.pings import Ping
from refloat_checks.probed import Attributes, Examination, Usage
from refloat_checks.proc import Link, Mount, Process
from refloat_checks.process_table import Identity, ProcessUse
from refloat_checks.process_titles import Title
from refloat_checks.sockets import Socket
from refloat_contract.words import Status

G = 1 << 20
PROCESSES = (
    (10, 1, 0, "root", "sshd: /usr/sbin/sshd -D [listener]"),
    (11, 1, 997, "munge", "/usr/sbin/munged --num-threads 10"),
    (50, 1, 1000, "bob", "./burn --all"),
)
FILE = Attributes("file", 0o400, 8, 64768, 0, 997, 0, 100, 2000.0, 1000.0, 1000.0)
DMI = "Handle 0x0000, DMI type 0, 26 bytes\nBIOS Information\n\tVersion: 2.19.1\n"
MCELOG = "corrected memory errors:\n\t9 total\n\t{} in 24h\nuncorrected memory errors:\n\t0 total\n\t0 in 24h\n"
USAGE = Usage(size_kb=100 * G, free_kb=10 * G, used_kb=90 * G, inodes=1000, inodes_free=100)


def use(pid: int, ppid: int, uid: int, title: str) -> ProcessUse:
    return ProcessUse(pid, ppid, uid, title, 500, 100, 2 * G, 4 * G, 3600, 7)


RECORDED: dict[str, Any] = {
    "processors": Processors(2, 128, 256),
    "memory": Memory(500 * G, 8 * G, 8 * G, 2 * G),
    "memory and NUMA nodes": memory.Memory(500 * G, 9 * G, 8 * G, 2 * G, 2048, {}, {}, 8 * G),
    "InfiniBand ports": Infiniband((IbPort("mlx5_0:1", "ACTIVE", "LinkUp", "200"),), 5),
    "InfiniBand ports and counters": (Port("mlx5_0:1", "ACTIVE", "LinkUp", 200.0, 4, {}),),
    "link lo": Link("lo", "unknown", carrier=True, speed_mbps=None),
    "link eth0": Link("eth0", "down", carrier=False, speed_mbps=None),
    "link eth1": None,
    "link myri1": None,
    "network devices": ("lo", "eth0", "myri0"),
    "kernel modules": ("gm",),
    "mounts": {"/home": Mounted("nfs:/home", "nfs4", "rw,nosuid"), "/apps": Mounted("nfs:/apps", "nfs4", "ro")},
    "the mount table": (
        Mount("/home", "nfs:/home", "nfs4", frozenset({"rw", "nosuid"})),
        Mount("/apps", "nfs:/apps", "nfs4", frozenset({"ro"})),
    ),
    "examination /gone": Examination(None, None, "", 2),
    "examination /f": Examination(FILE, FILE, "r", 0),
    "examination /dev/nvidia0": Examination(None, None, "", 2),
    "content /f": b"one\ntwo\n",
    "usage /home": USAGE,
    "user 0": "root",
    "user 997": "munge",
    "user 1000": "bob",
    "group 0": "root",
    "uid root": 0,
    "uid munge": 997,
    "process titles": tuple(Title(pid, title) for pid, _, _, _, title in PROCESSES),
    "processes": {pid: Identity(uid, 7) for pid, _, uid, _, _ in PROCESSES},
    "the process table": tuple(
        Process(pid, ppid, uid, "S", title.split()[0].rpartition("/")[2].rstrip(":"), tuple(title.split()))
        for pid, ppid, uid, _, title in PROCESSES
    ),
    "what processes use": tuple(use(pid, ppid, uid, title) for pid, ppid, uid, _, title in PROCESSES),
    "job owners": ["alice"],
    "/proc/loadavg": "5.00 4.00 3.00 1/2 3\n",
    "tcp sockets": (Socket("tcp", "0.0.0.0:22", "0.0.0.0:*", "LISTEN", "", 0, 7001),),
    "udp sockets": (),
    "raw sockets": (),
    "unix sockets": (),
    "sockets": {7001: [10]},
    "program dmidecode": Ended(0, DMI),
    "program mcelog --client": Ended(0, MCELOG.format(3)),
    "program nvidia-smi": Ended(0, ""),
    "program nvidia-healthmon -e -v": Ended(0, ""),
}
LINES = """
check_fs_mount -s 'nfs:*' -t nfs4 -o '/(^|,)rw($|,)/' /home
check_fs_mount -t lustre /home
check_fs_mount -o '!/(^|,)nosuid($|,)/' /home
check_fs_mount -o 'rw,*' /home
check_fs_mount /scratch
check_fs_mount /home 'nfs:*' nfs3
check_fs_mount_rw /home
check_fs_mount_rw -t 'nfs*' /apps
check_fs_mount_ro /apps
check_fs_mount_ro /home
check_fs_size /home 100G 100G
check_fs_size /home 101G
check_fs_size /home '' 99G
check_fs_free /home 10%
check_fs_free /home 11%
check_fs_free /home 11G
check_fs_used /home 91%
check_fs_used /home 90%
check_fs_used /home 90G
check_fs_inodes /home 1k 1k
check_fs_inodes /home 1001
check_fs_ifree /home 100
check_fs_ifree /home 101
check_fs_iused /home 91%
check_fs_iused /home 900
check_fs_free /nowhere 5%
check_file_contents /f one '!three'
check_file_contents /f '!two'
check_file_contents /f four
check_file_test -f -r -s /f
check_file_test -d /f
check_file_test -w /f
check_file_test -u /f
check_file_test -N /f
check_file_test -! -e /f
check_file_test -! -e /gone
check_file_test -e /gone
check_file_stat -m 0400 -U munge /f
check_file_stat -m 0600 /f
check_file_stat -M 0100 /f
check_file_stat -u 0 /f
check_file_stat -G root /f
check_file_stat -g 0 /f
check_file_stat -n 60 /f
check_file_stat -o 60 /f
check_file_stat -N 60 /f
check_file_stat -D 64768 /f
check_file_stat -t 195 /f
check_file_stat -m 0400 /gone
check_hw_cpuinfo 2 128 256
check_hw_cpuinfo '' 64
check_hw_physmem 500G 500G
check_hw_physmem 510G 512G 1%
check_hw_physmem 510G 512G 3%
check_hw_physmem_free 8G
check_hw_physmem_free 9G
check_hw_swap 8G 8G
check_hw_swap 0 4G
check_hw_swap_free 2G
check_hw_swap_free 3G
check_hw_mem 508G 508G
check_hw_mem 509G 512G
check_hw_mem_free 10G
check_hw_mem_free 11G
check_hw_ib 200
check_hw_ib 200 mlx5_0:1
check_hw_ib 100
check_hw_ib 200 mlx5_1:1
check_hw_eth lo
check_hw_eth eth1
check_hw_eth 'eth[0-9]'
check_hw_gm myri1
check_hw_mcelog
check_net_socket -p tcp -s LISTEN -l '*:22' -d 'sshd*' -u root
check_net_socket -l '*:80'
check_net_socket -! -l '*:22'
check_net_socket -! -l '*:80'
check_net_ping 127.0.0.1
check_net_ping 127.0.0.1 127.0.0.9
check_cmd_output -m o* -m '!x' echo one
check_cmd_output -m '!o*' echo one
check_cmd_output -m x echo one
check_cmd_output -r 1 false
check_cmd_status true
check_cmd_status false
check_cmd_status -r 1 false
check_cmd_dmesg -e 'echo [1] panic' -m '!*panic*'
check_cmd_dmesg -e 'echo [1] panic' -m '*panic*'
check_dmi_data_match -t 'BIOS Information' '*: Version: 2.19.1'
check_dmi_data_match -t 17 '*'
check_dmi_data_match -h 0x0000 '*: Version: 2.20'
check_dmi_data_match ! '*: Version: 2.19.1'
check_dmi_raw_data_match '*Version: 2.19.1'
check_dmi_raw_data_match ! '*Version: 2.19.1'
check_nv_healthmon
check_nvsmi_healthmon
check_ps_service -u root sshd
check_ps_service -m '*/munged' -u munge munge
check_ps_service -f -m '*--num-threads*' munge
check_ps_service crond
check_ps_service -u root -m '*/munged' munge
check_ps_service -s -m '*/burn' burn
check_ps_service -s ypbind
check_ps_daemon munged munge
check_ps_daemon munged root
check_ps_daemon munged '' '--num*'
check_ps_blacklist ypbind
check_ps_blacklist burn
check_ps_blacklist burn root
check_ps_cpu 51%
check_ps_cpu 50%
check_ps_cpu -m '*/munged' 50%
check_ps_cpu -f -m '*--all' 50%
check_ps_mem 5G
check_ps_mem 4G
check_ps_physmem 11%
check_ps_physmem 10%
check_ps_physmem -u '!bob' 2G
check_ps_time 61m
check_ps_time -A 60m
check_ps_loadavg 6 5 4
check_ps_loadavg 6 4
check_ps_kswapd 100 2
check_ps_unauth_users
check_ps_unauth_users -n bob
check_ps_unauth_users -c './burn'
check_ps_unauth_users -u 1000
check_ps_userproc_lineage
check_ps_userproc_lineage -c './burn'
""".strip().splitlines()
# They look at what was recorded otherwise than for the others.
BAD: dict[str, dict[str, Any]] = {
    "check_hw_mcelog": {"program mcelog --client": Ended(0, MCELOG.format(10))},
    "check_nv_healthmon": {"program nvidia-healthmon -e -v": Ended(3, "")},
    "check_nvsmi_healthmon": {"program nvidia-smi": Ended(14, "")},
    "check_hw_ib 200": {"InfiniBand ports": Infiniband((), 5), "InfiniBand ports and counters": ()},
    "check_hw_gm myri0": {"kernel modules": ()},
    "check_ps_kswapd 100 2": {
        "what processes use": tuple(
            ProcessUse(pid, 2, 0, f"[kswapd{pid}]", 0, 0, 0, 0, cpu_s, 1) for pid, cpu_s in ((5, 10), (6, 60))
        )
    },
    "check_moab_sched -v 8.*": {"program mdiag -S -v": Ended(0, "Version: 7.2.1 x")},
}
CASES = [*((line, {}) for line in LINES), *BAD.items()]


@pytest.fixture(autouse=True)
def _ping(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ping(family: socket.AddressFamily, host: str, wanted: Ping) -> bool:
        return host != "127.0.0.9"

    # Which hosts answer is the network's affair, and whether we may ask is the kernel's.
    monkeypatch.setattr("refloat_checks.pings.ping", ping)


def spoken(line: str) -> list[str]:
    command = words.parse(line)
    assert command is not None
    return [each for word in command.words for each in words.expand(word, lambda _: None) or ()]


async def by_nhc(line: str, facts: Facts) -> Status:
    name, *arguments = spoken(line)
    check = find(name)
    assert check is not None
    outcome = await check.run(arguments, NhcRun(facts, {"NHC_RM": "slurm", "MAX_SYS_UID": "999"}, clock=lambda: 1090.0))
    return outcome.status


async def by_toml(line: str, facts: Facts) -> Status:
    (table,) = convert(line).tables
    (spec,) = registry.build(tomllib.loads(toml({"name": "x", **table}))["check"])
    finding = await registry.look_of(spec)(facts, spec.limits, spec.name)
    return finding.status


@pytest.mark.parametrize(("line", "changed"), CASES)
async def test_a_line_and_its_form_find_the_same(
    line: str,
    changed: dict[str, Any],
    recorded_facts: Callable[[dict[str, Any]], Facts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = recorded_facts({**RECORDED, **changed})
    monkeypatch.setattr("refloat_checks.files.time.time", lambda: 1090.0)

    assert await by_toml(line, facts) is await by_nhc(line, facts)


def test_every_check_has_a_form_with_an_example_of_it() -> None:
    assert tuple(sorted(ALL)) == names()
    assert [form.check for form in ALL.values() if spoken(form.example)[0] != form.check] == []


def test_what_has_a_form_is_compared_above_but_for_programs_that_are_not_there() -> None:
    compared = {spoken(line)[0] for line, _ in CASES}

    assert set(names()) - compared == {"check_moab_rm", "check_moab_torque"}


def test_every_check_is_in_the_documents_table() -> None:
    page = (Path(__file__).parents[4] / "docs" / "nhc.md").read_text()
    made = page.partition("<!-- forms:")[2].partition("<!-- end of forms -->")[0]

    shown = [row.split()[1].strip("`") for row in made.splitlines() if row.startswith("| `")]
    assert tuple(shown) == names()


@pytest.mark.parametrize("check", names())
def test_the_form_of_an_example_is_a_check(check: str) -> None:
    made = convert(ALL[check].example)

    for table in made.tables:
        (spec,) = registry.build(tomllib.loads(toml({"name": "x", **table}))["check"])
        assert spec.kind == table["type"]
    assert made.tables
    assert made.left_out == ()


@pytest.mark.parametrize(
    ("line", "left_out"),
    [
        ("check_ps_service -S -v sshd", ("-S", "-v")),
        ("check_ps_cpu -k -r 5 90%", ("-k", "-r")),
        ("check_fs_mount -r -e 'wall x' /a", ("-r", "-e")),
        ("check_ps_unauth_users log kill", ("kill",)),
        ("check_cmd_output -M 'mine' -m x true", ("-M",)),
    ],
)
def test_what_would_be_done_is_left_out_and_said(line: str, left_out: tuple[str, ...]) -> None:
    assert convert(line).left_out == left_out


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("check_fs_mount -f $HOME", "it depends on variables"),
        ("[[ -e /x ]] || die 1 x", "only a shell can read it"),
        ("export NHC_RM=slurm", "it sets variables"),
        ("check_site_own", "check_site_own is not one of NHC's checks"),
        ("check_fs_free /x 1GiB", "'1GiB' is not an amount"),
        ("check_hw_physmem 1G", "without a largest size NHC's check always fails"),
        ("check_ps_daemon x '{a1,b2}'", "matches several users"),
        ("check_ps_cpu -x 1", "NHC refuses it: Invalid option:  -x"),
        ("check_cmd_status type cd", "only the shell knows that command"),
        ("check_file_test -f -d /x", "is not of another"),
        ("check_net_ping -c many x", "a number is wanted"),
    ],
)
def test_what_has_no_form_says_why(line: str, why: str) -> None:
    with pytest.raises(NoForm) as raised:
        convert(line)

    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("100G", "100G"), ("1536MB", "1536M"), ("5", "5k"), ("0", "0"), ("1024k", "1M")],
)
def test_sizes_are_spelled_with_the_largest_unit_that_loses_nothing(text: str, spelled: str) -> None:
    assert convert(f"check_fs_size /x {text}").tables[0]["min_size"] == spelled


@pytest.mark.parametrize("text", ['a "b" \\ c', "tab\tnewline\n", "\x7f\x1b", "é漢"])
def test_texts_are_read_back_as_they_were(text: str) -> None:
    assert tomllib.loads(toml({"name": text, "list": [text, 1, 0.5, True]})) == {
        "check": [{"name": text, "list": [text, 1, 0.5, True]}]
    }
