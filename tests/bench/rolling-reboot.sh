#!/bin/sh
# A stand-in for the shell scripts that sites run inside their health check to reboot a drained node, with the waits that
# such scripts have: `make bench-cycle` measures refloat beside it. Slurm runs it as HealthCheckProgram, once a minute.
# It works apart from slurmd, as in NHC's detached mode: slurmd takes its health check along when it is stopped.
[ "$1" = apart ] || exec setsid --fork flock --nonblock /run/rolling-reboot.lock "$0" apart
node=$(hostname -s)
note() { echo "$(date +%s.%N) $1" >>/lab/script.log; }

record=$(scontrol -o show node "$node") || exit 0
state=$(printf '%s\n' "$record" | sed -n 's/.* State=\([^ ]*\) .*/\1/p')
reason=$(printf '%s\n' "$record" | sed -n 's/.* Reason=\([^ ]*\) .*/\1/p')
note "looked $state $reason"

case "$state $reason" in
"IDLE+DRAIN reboot")
    note stopping
    sleep 2
    /usr/lpp/mmfs/bin/mmshutdown
    sleep 30
    systemctl stop slurmd
    scontrol update nodename="$node" state=down reason=rebooting
    note rebooting
    systemctl reboot
    ;;
"DOWN+DRAIN rebooting" | "IDLE+DRAIN rebooting")
    note mounting
    /usr/lpp/mmfs/bin/mmstartup
    sleep 30
    /usr/lpp/mmfs/bin/mmmount all
    note resuming
    scontrol update nodename="$node" state=resume
    ;;
esac
exit 0
