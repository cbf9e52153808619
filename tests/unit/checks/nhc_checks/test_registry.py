"""All 46 checks are there, and every place where they deviate from NHC is in the table."""

from typing import Final

from refloat_checks.nhc import deviations
from refloat_checks.nhc.registry import find, names

NHCS_CHECKS: Final = """
    check_cmd_dmesg check_cmd_output check_cmd_status check_dmi_data_match check_dmi_raw_data_match check_file_contents
    check_file_stat check_file_test check_fs_free check_fs_ifree check_fs_inodes check_fs_iused check_fs_mount
    check_fs_mount_ro check_fs_mount_rw check_fs_size check_fs_used check_hw_cpuinfo check_hw_eth check_hw_gm
    check_hw_ib check_hw_mcelog check_hw_mem check_hw_mem_free check_hw_physmem check_hw_physmem_free check_hw_swap
    check_hw_swap_free check_moab_rm check_moab_sched check_moab_torque check_net_ping check_net_socket
    check_nv_healthmon check_nvsmi_healthmon check_ps_blacklist check_ps_cpu check_ps_daemon check_ps_kswapd
    check_ps_loadavg check_ps_mem check_ps_physmem check_ps_service check_ps_time check_ps_unauth_users
    check_ps_userproc_lineage
"""


def test_all_46_checks_are_native() -> None:
    assert (list(names()), len(names())) == (NHCS_CHECKS.split(), 46)


def test_each_check_is_found_under_its_name() -> None:
    found = [find(name) for name in names()]

    assert [check and check.name for check in found] == list(names())


def test_what_nhc_does_not_ship_is_not_found() -> None:
    assert find("check_site_own") is None


def test_deviations_have_names_of_their_own_and_checks_that_exist() -> None:
    assert len({each.name for each in deviations.ALL}) == len(deviations.ALL)
    assert [check for each in deviations.ALL for check in each.checks if find(check) is None] == []


def test_no_deviation_is_left_out_of_the_table() -> None:
    made = [each for each in vars(deviations).values() if isinstance(each, deviations.Deviation)]

    assert sorted(made, key=lambda each: each.name) == sorted(deviations.ALL, key=lambda each: each.name)
