#!/usr/bin/env bash
# A Slurm cluster of one node in a directory of its own, for the tests of engine=slurm; no systemd, nothing outside DIR is touched.
#     slurm_cluster.sh start DIR [MAX_ARRAY]    then: export SLURM_CONF=DIR/slurm.conf
#     slurm_cluster.sh stop DIR
# Status 77: it cannot be done here (programs missing, not root, no mount namespaces); stdout says why.
# slurmd of 22.05 wants control groups; it gets the v1 plugin with IgnoreSystemd and an empty tmpfs over the cgroup path, in a
# mount namespace that only it sees. proctrack/linuxproc needs none.
set -euo pipefail
what=${1:?start or stop}; mkdir -p "${2:?directory}"; dir=$(cd "$2" && pwd); max_array=${3:-1001}
cannot() { echo "$*"; exit 77; }
# Ends only what this script started: by the process ids it wrote down.
stop() {
    local name pid i
    for name in slurmd slurmctld munged; do
        pid=$(cat "$dir/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for i in $(seq 50); do kill -0 "$pid" 2>/dev/null || continue 2; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}
if [ "$what" = stop ]; then stop; exit 0; fi
PATH=$PATH:/usr/sbin:/sbin
for p in munged slurmctld slurmd sbatch scontrol unshare; do command -v $p >/dev/null || cannot "$p is not installed"; done
[ "$(id -u)" = 0 ] || cannot "starting a Slurm node needs root"
unshare -m true 2>/dev/null || cannot "no mount namespaces here"

host=$(hostname -s); base=$((20000 + $$ % 20000)); umask 022
mkdir -p "$dir"/{state,spool,cgroup}
dd if=/dev/urandom of="$dir/munge.key" bs=128 count=1 2>/dev/null; chmod 600 "$dir/munge.key"
cat > "$dir/slurm.conf" <<CONF
ClusterName=likeness_test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
SlurmdPort=$((base + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
MaxArraySize=$max_array
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SchedulerTimeSlice=5
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
cat > "$dir/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
IgnoreSystemd=yes
CgroupMountpoint=$dir/cgroup
CONF
export SLURM_CONF=$dir/slurm.conf
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" \
    --seed-file="$dir/munge.seed" 2>"$dir/munged.err" || cannot "munged does not start: $(tail -n 1 "$dir/munged.err")"
slurmctld -i >"$dir/start.log" 2>&1 || { stop; cannot "slurmctld does not start: $(tail -n 1 "$dir/slurmctld.log")"; }
unshare -m --propagation private sh -c 'mount -t tmpfs none "$1/cgroup" && exec slurmd' sh "$dir" >>"$dir/start.log" 2>&1 ||
    { stop; cannot "slurmd does not start: $(tail -n 1 "$dir/slurmd.log")"; }
for i in $(seq 100); do
    case $(sinfo -h -o %t 2>/dev/null) in idle*|mix*) echo "$dir/slurm.conf"; exit 0 ;; esac
    sleep 0.2
done
why=$(grep -hi error "$dir"/slurmd.log "$dir"/slurmctld.log | tail -n 1); stop; cannot "the node does not come up: $why"
