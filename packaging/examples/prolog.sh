#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prolog= (or Epilog=, with the word "epilog") of slurm.conf: no job starts on a node that the agent knows to be sick.
#
#   Prolog=/etc/refloat/prolog.sh
#
# Exit 1 makes Slurm drain the node ("Prolog error") and requeue the job. So only a FAILED check ends so: what is not
# known (a check that could not be looked at, no agent, no answer in time) lets the job start.

profile=prolog
case "${SLURM_SCRIPT_CONTEXT:-}" in epilog*) profile=epilog ;; esac

# The agent answers from its last looks; what it has to look at anew may take until the deadline of that check.
said=$(timeout --kill-after=5 40 /usr/bin/refloat check --profile "$profile" 2>&1)
[ $? -eq 1 ] || exit 0

said=$(printf '%s\n' "$said" | grep '^FAILED' | grep -v '(only warns)$' | head -n 1)
# An exit status of 1 without such a line is a fault of the command (a traceback), not of the node.
[ -n "$said" ] || exit 0
logger -t refloat-$profile -p daemon.err -- "job ${SLURM_JOB_ID:-unknown} not started: $said"
printf 'refloat: %s\n' "$said"
exit 1
