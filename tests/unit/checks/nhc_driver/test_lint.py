# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.nhc import registry
from refloat_checks.nhc.lint import Trap, lint


def traps(text: str) -> list[Trap]:
    return lint(text, {*registry.names(), "check_net_socket"})


GOOD = """\
# a comment
* || export MARK_OFFLINE=0
* || check_hw_cpuinfo 2 12 24
* || check_fs_free /tmp 3%
{n[01-10],login1} || check_hw_swap 8g 8g 3%
/^gpu/ || check_ps_loadavg $((2*HW_CORES))
* || [[ -e /etc/x ]] || die 1 "no x"
"""


def test_a_file_without_traps_has_none() -> None:
    assert traps(GOOD) == []


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("* || check_hw_eth lo", (1, 21), "no line end"),
        ("* || check_hw_eth lo\r\n", (1, 21), "Windows"),
        ("# see \\\n* || check_hw_eth lo\n", (1, 7), "takes the next line for comment"),
        ("* || check_fs_mount -t '/^a\\.b$/' -f /\n", (1, 28), "drops the backslash"),
        ("* || check_hw_eth lo\n{login} || true\n", (2, 2), "matches no host"),
        ("!{login} || true\n", (1, 3), "matches every host"),
        ("{node[1-10]} || true\n", (1, 2), "leaves out node1 to node9"),
        ("{node[01-10,15]} || true\n", (1, 2), "matches no host"),
        ("/ || true\n", (1, 1), "ends here with status 1"),
        ("s[0-300] || true\n", (1, 2), "for one character"),
        ("/n[/ || true\n", (1, 3), "matches no host"),
        ("* || NHC_MCHECK_DELIM[0]=@@\n", (1, 6), "external match"),
        ("n1,n2 || true\n", (1, 1), "list without braces"),
        ("check_hw_eth lo\n", (1, 1), "runs nowhere"),
        ("* ||\n", (1, 1), "ignores the line"),
        ("* || check_x_y\n", (1, 6), "127"),
        ("* || check_file_contents /x 'a  b'\n", (1, 29), "makes them one"),
        ('* || true || die 1 "it\'s"\n', (1, 14), "NOT drained"),
        ("* || TIMEOUT=99\n", (1, 6), "has used its value already"),
        ("* || HOSTNAME=$HOSTNAME_S\n", (1, 6), "targets were matched before"),
        ("* || check_ps_loadavg $((2*HW_CORES))\n", (1, 6), "it is 0"),
        ("* || check_fs_free / 1GiB\n", (1, 6), "the check passes"),
        ("* || check_fs_free / 1.5G\n", (1, 6), "the check fails"),
        ("* || check_fs_free / 99.9%\n", (1, 6), "the check passes"),
        ("* || check_hw_physmem 1b 2g\n", (1, 6), "takes it for kB"),
        ("* || check_fs_free scratch 1g\n", (1, 6), "no mount point"),
        ("* || check_fs_free /dev/shm 1g\n* || check_fs_free /dev/mapper/root 1g\n", (2, 6), "that it is mounted on"),
        ("* || check_fs_mount -s '!/x(/' -f /x\n", (1, 6), "matches everything"),
        ("* || check_ps_service -u root sshd\n", (1, 6), "does not find sshd"),
        ("* || check_net_socket -p tcp\n", (1, 6), "always passes"),
        ("* || [[ -e /off ]] && exit 0\n", (1, 6), "ends the whole run"),
        ("* || export NHC_CHECK_ALL=1\n* || /usr/local/sbin/mine\n", (2, 6), "is not seen"),
        ("* || check_ps_time -u bob 5m3S\n", (1, 6), "upper-case S"),
    ],
)
def test_each_trap_gets_a_line(text: str, place: tuple[int, int], says: str) -> None:
    found = traps(text)

    assert [(trap.line, trap.column) for trap in found] == [place]
    assert says in str(found[0])
    assert " NHC: " in str(found[0])
    assert " refloat: " in str(found[0])
    assert " Write: " in str(found[0])


def test_a_mistyped_check_gets_the_nearest_name() -> None:
    assert str(traps("* || check_fs_mont -f /\n")[0]).endswith("Write: check_fs_mount")
