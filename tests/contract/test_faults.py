# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Every fault that UGRO promises to survive, and the tests that prove it; one without a test is said to have none."""

from __future__ import annotations

import ast
import functools

import pytest

from tests.contract.project import ROOT

_I, _U = "tests/integration", "tests/unit"

# What goes wrong and what is promised -> the tests. A fault without any belongs to UNPROVEN as well, with the reason.
FAULTS: dict[str, tuple[str, ...]] = {
    "the controller is killed during a launch: the next one goes on or takes it back": (
        f"{_I}/test_takeover.py::test_killed_at_any_moment_no_job_and_no_gpu_is_lost",
        f"{_I}/test_agent.py::test_killed_at_any_moment_the_queue_loses_no_job",
    ),
    "an Ansible task is given up while its command goes on: starting is idempotent, stopping is UGRO's own": (
        f"{_U}/test_torchrun_module.py::test_starting_twice_starts_once",
        f"{_U}/test_attempt.py::test_a_stop_keeps_a_start_under_way_from_coming_up",
        f"{_I}/test_playbooks.py::test_a_job_outlives_its_playbook",
    ),
    "SSH is cut during a job: the job goes on": (
        f"{_I}/test_faults.py::test_a_cut_shorter_than_the_limit_costs_nothing",
        f"{_I}/test_launch.py::test_ctrl_c_detaches_and_the_job_goes_on_to_its_end",
    ),
    "torchrun is killed: its ranks end with it": (f"{_I}/test_faults.py::test_ranks_do_not_outlive_their_torchrun",),
    "process trees that daemonise: nothing of them is left": (
        f"{_I}/test_faults.py::test_daemons_and_deaf_ranks_leave_nothing_behind",
        f"{_I}/test_supervisor_killed.py::test_its_processes_are_ended_and_its_results_collected",
    ),
    "one rank is out of memory while the others wait for it: the gang is stopped at once and the rank named": (
        f"{_I}/test_explain.py::test_in_a_collective_the_first_is_told_from_what_follows",
        f"{_I}/test_explain.py::test_one_rank_fails",
    ),
    "no progress while the processes live: noticed, and stopped if asked": (
        f"{_I}/test_faults.py::test_a_rank_that_never_comes_to_the_collective_is_noticed_by_the_stall_timeout",
        f"{_I}/test_recovery.py::test_a_frozen_rank_is_told_of_and_the_gang_starts_anew",
    ),
    "the port of the rendezvous is taken: another is leased, and one more try": (
        f"{_I}/test_faults.py::test_a_busy_master_port_is_passed_over",
        f"{_I}/test_explain.py::test_one_rank_fails",
    ),
    "a host whose own name does not resolve: refused, and torchrun is told its address in any case": (
        f"{_U}/test_verify.py::test_a_name_that_does_not_resolve_stops_a_launch",
        f"{_U}/test_node.py::test_a_host_name_that_does_not_resolve",
        f"{_U}/test_plan_network.py::test_torchrun_is_told_the_address_of_its_node",
    ),
    "interfaces with other names, and bridges of containers: each node's own by its address": (
        f"{_U}/test_health.py::test_the_interface_that_holds_the_address",
        f"{_U}/test_node.py::test_interfaces_are_those_of_iproute2",
        f"{_U}/test_plan_network.py::test_each_node_talks_through_the_interface_that_holds_its_address",
    ),
    "torch or NCCL differ between nodes: refused with the difference": (
        f"{_I}/test_faults.py::test_versions_that_differ_between_nodes_are_refused_with_the_difference",
        f"{_U}/test_verify.py::test_the_node_whose_version_differs_from_the_usual_one_is_named",
    ),
    "driver and library of a GPU do not fit after an upgrade: drained, with what to do": (
        f"{_U}/test_nvml.py::test_driver_and_library_mismatch",
        f"{_U}/test_nvidia_smi.py::test_driver_and_library_mismatch",
        f"{_U}/test_health_states.py::test_only_what_no_waiting_puts_right_drains_a_node",
        f"{_U}/test_health_drains.py::test_a_node_that_is_well_again_gets_jobs_again",
    ),
    "a GPU is gone, with a message of the kernel or without: compared with the inventory, drained": (
        f"{_I}/test_health.py::test_a_lost_gpu_drains_its_node_and_a_foreign_process_only_its_gpu",
        f"{_U}/test_xid.py::test_an_xid_is_a_finding_with_its_gpu_what_it_means_and_what_to_do",
        f"{_U}/test_health.py::test_a_lost_gpu_is_critical_and_does_not_count_as_missing_too",
    ),
    "a reading that hangs: given up at its deadline, the other nodes are read": (
        f"{_U}/test_nvml.py::test_a_driver_that_hangs_is_given_up_at_the_deadline",
        f"{_U}/test_readings.py::test_a_report_that_does_not_come",
        f"{_U}/test_sweeper.py::test_a_node_that_lives_and_gives_no_readings_is_degraded_not_lost",
        f"{_U}/test_sweeper.py::test_a_node_that_does_not_start_is_unreachable_and_the_others_go_on",
    ),
    "a GPU that slows itself down: a warning, no drain": (
        f"{_U}/test_health.py::test_temperature",
        f"{_U}/test_nvml.py::test_a_hot_gpu_says_why_it_is_slow",
        f"{_U}/test_health_states.py::test_only_what_no_waiting_puts_right_drains_a_node",
    ),
    "the disk is full at a checkpoint: said before, and the old checkpoint stays": (
        f"{_U}/test_train_checkpoint.py::test_disk_full_is_one_clear_line_and_the_old_checkpoint_stays",
        f"{_I}/test_faults.py::test_a_full_disk_is_refused_before_and_stops_the_gang_during_a_job",
    ),
    "a checkpoint that was half written: never taken for a whole one": (
        f"{_U}/test_train_checkpoint.py::test_a_writer_killed_in_the_middle_leaves_the_old_checkpoint",
        f"{_U}/test_train_checkpoint.py::test_auto_skips_a_damaged_checkpoint",
    ),
    "GPUs whose index changes: they are held by UUID": (
        f"{_U}/test_scheduler.py::test_the_order_in_which_gpus_are_listed_does_not_matter",
        f"{_U}/test_store.py::test_sync_node_follows_what_the_node_answers",
    ),
    "a GPU that somebody else uses: shown, never given, nobody killed": (
        f"{_I}/test_health.py::test_a_lost_gpu_drains_its_node_and_a_foreign_process_only_its_gpu",
        f"{_U}/test_health.py::test_somebody_elses_process_is_named_and_our_own_is_not",
        f"{_U}/test_queue_store.py::test_nodes_and_gpus_that_are_not_to_be_had",
    ),
    "names that are templates, commands, paths or options: refused, and nothing of them runs": (
        f"{_I}/test_bad_input.py::test_a_name_that_is_none_is_refused",
        f"{_I}/test_playbook_input.py::test_a_template_never_runs_as_the_name_of_a_job",
    ),
    "a network cut of less than two minutes: suspicion alone kills no job": (
        f"{_U}/test_health_states.py::test_one_lost_packet_changes_nothing",
        f"{_U}/test_health_states.py::test_unreachable_needs_failures_and_silence",
        f"{_I}/test_false_alarms.py::test_a_cut_of_two_seconds_is_no_failure",
        f"{_I}/test_health.py::test_a_short_cut_is_no_alarm_and_a_long_one_is_noticed_in_five_seconds",
    ),
    "a node that was cut off comes back: never two live attempts": (
        f"{_I}/test_faults.py::test_of_two_attempts_one_lives_when_the_node_of_the_first_comes_back",
        f"{_I}/test_faults.py::test_an_unplugged_node_is_reported_and_the_others_are_freed",
        f"{_U}/test_isolation.py::test_isolated_only_when_no_peer_answers_any_more",
    ),
    "a template in a value: never run, on the way to no program": (
        f"{_I}/test_playbook_input.py::test_a_template_never_runs",
        f"{_I}/test_playbook_input.py::test_no_value_at_all_is_run_on_the_way",
        f"{_U}/test_runner.py::test_a_template_never_becomes_a_variable",
    ),
    "a secret of a job: in no log, database, process list or file that stays": (
        f"{_I}/test_secrets.py::test_a_secret_leaves_no_trace",
        f"{_I}/test_secrets.py::test_a_waiting_job_keeps_its_secret_in_memory_and_asks_for_it_again",
    ),
    "the API beyond this machine: not without a token, not for a foreign host name, not by accident": (
        f"{_U}/test_api.py::test_tcp_needs_a_token_and_a_known_host",
        f"{_U}/test_api.py::test_tcp_is_never_open_by_accident",
        f"{_U}/test_api.py::test_token_files_that_are_not_safe_are_refused",
    ),
    "another user of the machine: their own jobs and nothing else": (
        f"{_I}/test_hostile_users.py::test_a_job_of_somebody_else_stays_as_it_is",
        f"{_I}/test_hostile_users.py::test_forged_environment_changes_nothing",
        f"{_I}/test_hostile_users.py::test_files_of_the_store_are_closed_to_others",
    ),
    "what ansible-runner writes on the way is gone after the run": (
        f"{_U}/test_runner.py::test_results_failures_and_events_by_host",
        f"{_U}/test_runner.py::test_an_interrupt_ends_ansible_and_its_workers",
    ),
    "the store of the rendezvous asks nobody who they are: a port and a word of the gang's own": (
        f"{_U}/test_plan_network.py::test_a_gang_is_known_by_a_word_that_nobody_guesses",
        f"{_I}/test_faults.py::test_a_busy_master_port_is_passed_over",
    ),
    "`ugro` is killed while Ansible runs for it: Ansible and its workers end": (
        f"{_U}/test_runner.py::test_ansible_ends_when_ugro_is_killed",
        f"{_U}/test_runner.py::test_an_interrupt_ends_ansible_and_its_workers",
    ),
    "a half-open connection: noticed in seconds": (
        f"{_I}/test_health.py::test_a_short_cut_is_no_alarm_and_a_long_one_is_noticed_in_five_seconds",
        f"{_I}/test_faults.py::test_an_unplugged_node_is_reported_and_the_others_are_freed",
    ),
    "SQLite on a network file system: refused": (
        f"{_U}/test_state_database.py::test_sqlite_is_refused_on_a_network_file_system",
    ),
}

UNPROVEN: dict[str, str] = {}


@functools.cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_tests(fault: str) -> None:
    assert bool(FAULTS[fault]) != (fault in UNPROVEN), "either tests, or the reason why there are none"
    for node_id in FAULTS[fault]:
        path, _, name = node_id.partition("::")
        assert (ROOT / path).is_file(), f"{path} is gone"
        assert name in names_in(path), f"{node_id} is gone: name the test that proves it now"


def test_reasons_belong_to_faults() -> None:
    assert set(UNPROVEN) <= set(FAULTS)
    assert all(UNPROVEN.values())
