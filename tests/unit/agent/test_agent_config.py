# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from refloat_agent.config import ENV_PREFIX, AgentSettings
from refloat_agent.recipes import OnFailure, Step, StepKind, Way
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Phase
from refloat_service.settings import load


def _load(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load(AgentSettings, path, env_prefix=ENV_PREFIX, env={})


def test_an_empty_file_only_observes_and_knows_how_to_reboot(tmp_path: Path) -> None:
    policy = _load(tmp_path, "").policy()

    assert not policy.acts
    assert policy.recipes["reboot"].reboot
    assert policy.dialect.word("reboot") is not None


def test_every_phase_has_a_deadline_that_ends_it(tmp_path: Path) -> None:
    policy = _load(tmp_path, 'mode = "act"').policy()

    working = set(Phase) - {Phase.IN_SERVICE, Phase.HELD}
    assert {phase for phase, deadline_s in policy.deadlines_s.items() if deadline_s > 0} == working


def test_a_recipe_that_runs_commands_becomes_phases(tmp_path: Path) -> None:
    text = '[recipes.reconfigure]\nrun = [["true"]]\n[recipes.reconfigure.triggers]\ngpfs-restart = "gpfs-restarting"\n'
    policy = _load(tmp_path, text).policy()

    recipe = policy.recipes["reconfigure"]
    assert [str(step.kind) for step in recipe.steps] == [
        "stop",
        "unmount",
        "run",
        "mount",
        "start",
        "check",
        "resume",
    ]
    assert (recipe.reboot, recipe.commits_at) == (False, 2)
    word = policy.dialect.word("gpfs-restart")
    assert word is not None
    assert (word.progress, word.recipe) == ("gpfs-restarting", "reconfigure")


def test_a_recipe_of_steps_is_taken_as_it_is_written(tmp_path: Path) -> None:
    text = """
        reboot_ladder = []
        [recipes.firmware]
        steps = [
          { step = "unmount" },
          { step = "run", argv = [["fwupdate", "--apply"]], deadline_s = 1800, retries = 2, on_failure = "continue" },
          { step = "reboot", how = "soft-reboot", pre = [["sync"]], hook_deadline_s = 9 },
          { step = "mount" }, { step = "check" }, { step = "resume" } ]
        """
    policy = _load(tmp_path, text).policy()
    _, run, reboot, *_ = policy.recipes["firmware"].steps

    assert policy.ladder == ()
    assert run == Step(StepKind.RUN, (("fwupdate", "--apply"),), Way.SYSTEMD, 1800.0, 2, OnFailure.CONTINUE)
    assert reboot == Step(StepKind.REBOOT, how=Way.SOFT, pre=(("sync",),), hook_deadline_s=9.0)


def test_a_node_that_does_not_go_down_is_forced_in_time_by_default(tmp_path: Path) -> None:
    policy = _load(tmp_path, "").policy()

    assert [rung.way for rung in policy.ladder] == [Way.FORCE, Way.FORCE_FORCE, Way.SYSRQ]
    assert sum(rung.after_s for rung in policy.ladder) < policy.deadlines_s[Phase.REBOOTING]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('mod = "act"', "mode"),
        ("[slurm]\npol_s = 5", "poll_s"),
        ('node = "a/b"', "letters"),
        ("[recipes.idle]\n", "must reboot or run"),
        ('[recipes.a]\nreboot = true\ntriggers = { "Fix It" = "fixing" }', "no trigger word"),
        ('[recipes."Fix It"]\nreboot = true', "needs triggers"),
        ('[recipes.a]\nreboot = true\ntriggers = { reboot = "flashing" }', "names two recipes"),
        ('[recipes.a]\nreboot = true\ntriggers = { fix = "reboot" }', "used twice"),
        ('[recipes.a]\nreboot = true\ntriggers = { fix = "fix" }', "used twice"),
        ('[recipes.a]\nreboot = true\ntriggers = { fix = "x1", mend = "x1" }', "used twice"),
        ('[health]\nprefix = ""', "cannot mark a drain"),
        ('[health]\nprefix = "reboot"', "cannot mark a drain"),
        ('[health]\nadopt = ["rebooting:"]', "cannot mark a drain"),
        ('[health]\nprefix = "refloat-hold:"', "cannot mark a drain"),
        ('[[storage]]\nname = "s"\npath = "scratch"', "path"),
        ('[[storage]]\nname = "s"\npath = "/s"\ndriver = "command"\nmount = [["m"]]', "both mount and unmount"),
        ('[[storage]]\nname = "s"\npath = "/s"\nmount = [["m"]]', "belong to driver"),
        ('[[storage]]\nname = "s"\npath = "/s"\n[[storage]]\nname = "s"\npath = "/t"', "share a name"),
        ('[[check]]\nkind = "mout"', "mount"),
        ('[recipes.a]\nreboot = true\nsteps = [{ step = "resume" }]', "short form of steps"),
        ('[recipes.a]\nsteps = [{ step = "rnu" }]', "run"),
        ('[recipes.a]\nsteps = [{ step = "run", argv = [["x"]] }, { step = "resume" }]', "one step check"),
        ('[recipes.a]\nsteps = [{ step = "check", on_failure = "skip" }]', "never resumed unproven"),
        ('[recipes.a]\nsteps = [{ step = "unmount", on_failure = "continue" }]', "storage that stays busy"),
        ('[recipes.a]\nsteps = [{ step = "reboot", how = "sysrq" }]', "soft-reboot"),
        ('reboot_ladder = [{ way = "systemd", after_s = 5 }]', "force"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence_that_names_it(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        _load(tmp_path, text)


def test_the_site_s_prefixes_may_be_adopted(tmp_path: Path) -> None:
    assert _load(tmp_path, '[health]\nadopt = ["NHC:"]').dialect().adopted_prefixes == ("NHC:",)
