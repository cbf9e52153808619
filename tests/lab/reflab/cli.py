# SPDX-License-Identifier: Apache-2.0
"""The command line of the lab."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from reflab import app, chroot, command, host, image, lifecycle
from reflab.cluster import Lab
from reflab.command import say
from reflab.errors import LabError
from reflab.node import Node
from reflab.places import CONTROLLER, Places
from reflab.supervisor import Supervisor

DEFAULT_NODES = 3


def main(argv: Sequence[str]) -> int:
    """Run one command; code 0 good, 1 the lab could not do it, 2 usage; `exec` and `sh` give the command's own."""
    # The halves of this program that it starts itself, in namespaces of their own.
    if argv[:1] == ["_chroot"]:
        return chroot.main(argv[1])
    if argv[:1] == ["_node"]:
        Supervisor(Node(Places(Path(argv[1]), argv[2], argv[3]), argv[4])).run()
        return 0
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options) or 0)
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lab: interrupted\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab.py",
        description="A throw-away Slurm cluster of really rebooting containers.",
        epilog="Environment: LAB_RELEASE (bookworm, trixie, forky), LAB_NAME, LAB_DIR, LAB_MIRROR, LAB_SLURM_CONF.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_life(commands)
    _add_nodes(commands)
    return parser


def _add_life(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    up = commands.add_parser("up", help="bring up ctl and n1..nN; removes the rest of a crashed run first")
    up.add_argument("nodes", type=int, nargs="?", default=DEFAULT_NODES)
    up.add_argument("--bare", action="store_true", help="without refloat")
    up.add_argument("--packages", type=Path, help="the folder of other packages than those of the checkout")
    up.add_argument("--stopped", action="store_true", help="install refloat, but do not start it at boot")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="remove every trace but the cache")
    down.add_argument("--purge", action="store_true", help="the cache, too")
    down.set_defaults(run=_down)
    prepare = commands.add_parser("prepare", help="install host packages and build the image, and no more")
    prepare.set_defaults(run=_prepare)
    status = commands.add_parser("status", help="power and Slurm state of all nodes")
    status.set_defaults(run=_status)


def _add_nodes(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    execute = commands.add_parser("exec", help="run a command in a container as root")
    execute.add_argument("node")
    execute.add_argument("argv", nargs=argparse.REMAINDER)
    execute.set_defaults(run=_exec)
    shell = commands.add_parser("sh", help="a shell in a container, or one shell line")
    shell.add_argument("node")
    shell.add_argument("line", nargs="?")
    shell.set_defaults(run=_shell)
    journal = commands.add_parser("journal", help="a container's journal of all boots")
    journal.add_argument("node")
    journal.add_argument("words", nargs=argparse.REMAINDER, help="journalctl's")
    journal.set_defaults(run=lambda options: sys.stdout.write(_node(options).journal(*options.words)) and 0)
    for name, text in _SWITCHES.items():
        switch = commands.add_parser(name, help=text)
        switch.add_argument("node")
        switch.set_defaults(run=_switch, switch=name)


_SWITCHES = {
    "off": "cut the power; dark until `on`",
    "on": "give power, or let go of a hold",
    "hold": "let the next reboot end in the dark",
    "unplug": "pull the network cable",
    "plug": "put the cable back",
}


def _up(options: argparse.Namespace) -> None:
    host.prepare()
    project = None if options.bare else app.App(options.packages and options.packages.resolve())
    Lab(nodes=options.nodes, project=project, start_project=not options.stopped).up()


def _down(options: argparse.Namespace) -> None:
    if not options.purge:
        Lab().down()
        return
    home = Places.of().home
    for run in (home / "run").glob("*-*"):
        name, release = run.name.rsplit("-", 1)
        lifecycle.remove(Places(home, release, name))
    shutil.rmtree(home, ignore_errors=True)
    say(f"removed {home}")


def _prepare(_options: argparse.Namespace) -> None:
    host.prepare()
    say(f"image: {image.ensure(Places.of())}")


def _status(_options: argparse.Namespace) -> int:
    places = Places.of()
    plan = lifecycle.recorded(places)
    if plan is None:
        say(f"{places.run.name}: down")
        return 1
    for name in (CONTROLLER, *plan.names):
        node = Node(places, name)
        events = [f"{event.what}" for event in node.power_events()]
        say(f"{name}: {node.read('state')}, {events.count('boot')} boots, last: {events[-1] if events else '-'}")
    shown = Lab().exec(CONTROLLER, ["sinfo", "-N", "-o", "%N %T %E"], check=False).stdout
    sys.stdout.write(shown)
    return 0


def _node(options: argparse.Namespace) -> Node:
    return Node(Places.of(), options.node)


def _exec(options: argparse.Namespace) -> int:
    return command.run_attached([*_node(options).enter(), *options.argv])


def _shell(options: argparse.Namespace) -> int:
    return command.run_attached([*_node(options).enter(), "bash", *(["-c", options.line] if options.line else ["-l"])])


def _switch(options: argparse.Namespace) -> None:
    lab = Lab()
    {"off": lab.power_off, "on": lab.power_on, "hold": lab.hold, "unplug": lab.unplug, "plug": lab.plug}[
        options.switch
    ](options.node)
