#!/usr/bin/env bash
# slurm.sh: the trainer under a real Slurm: a cluster of two nodes on this machine, each with a host name of its own (unshare --uts), and jobs as users
# submit them: srun with and without PMIx, scripts/multi_node/*.sbatch by files and by TCP, ranks that fail, signals, requeues. The GPU's program is the
# emulated one. Needs root, slurm-wlm and munge, and says so where they are missing.
set -u
cd "$(dirname "$0")/../.." || exit 2
project=$PWD dir=$PWD/build/tmp/slurm
skip() { echo "test-slurm: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "daemons of Slurm with host names of their own need root"
for program in slurmctld slurmd srun sbatch munged unshare; do command -v $program > /dev/null || [ -x /usr/sbin/$program ] || skip "no $program found"; done
PATH=$PATH:/usr/sbin:/sbin
unshare --uts --mount true 2> /dev/null || skip "no host names of their own here (unshare)"

# --- a cluster ---------------------------------------------------------------------------------------------------------
rm -rf "$dir" && mkdir -p "$dir"/{run,spool,state,log,n1,n2,project/data} && cd "$dir" || exit 2
daemons=()
end() {
    scancel --quiet --state=RUNNING 2> /dev/null; scancel --quiet --state=PENDING 2> /dev/null
    for file in "${daemons[@]}"; do [ -s "$file" ] && kill "$(cat "$file")" 2> /dev/null; done
}
trap end EXIT
port=$((20000 + $$ % 20000))
printf '127.0.0.1 localhost %s n1 n2\n' "$(hostname)" > hosts
cat > slurm.conf << CONF
ClusterName=two
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$dir/run/munge
SlurmctldPort=$port
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/ctld.pid
SlurmdPidFile=$dir/run/%n.pid
SlurmctldLogFile=$dir/log/ctld
SlurmdLogFile=$dir/log/%n
TmpFS=$dir/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
NodeName=n1 NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2
NodeName=n2 NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2
PartitionName=all Nodes=ALL Default=YES
CONF
export SLURM_CONF=$dir/slurm.conf
head -c 1024 /dev/urandom > key && chmod 400 key && chmod 755 run
munged --force --key-file="$dir/key" --socket="$dir/run/munge" --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged" --seed-file="$dir/run/seed" 2> log/munged.said || skip "munged does not start: $(head -1 log/munged.said)"
slurmctld || skip "slurmctld does not start"
for node in n1 n2; do unshare --uts --mount bash -c "hostname $node && mount --bind $dir/hosts /etc/hosts && exec slurmd -N $node" < /dev/null > log/$node.said 2>&1; done
daemons=("$dir"/run/{n1,n2,ctld,munged}.pid)
for _ in $(seq 50); do [ "$(sinfo --noheader --states=idle --format=%D 2> /dev/null)" = 2 ] && break; sleep 0.2; done
[ "$(sinfo --noheader --states=idle --format=%D 2> /dev/null)" = 2 ] || skip "the nodes do not come up: $(tail -n 1 log/n1)"
echo "slurm    $(slurmctld -V), two nodes"

# --- what runs there -----------------------------------------------------------------------------------------------------
cp -r "$project/scripts" project
for _ in $(seq 400); do echo "Anna has a box. Ben has a ball. Where is the box? The box is with Anna. $((RANDOM % 7))"; done > project/data/text.txt
"$project/tokenize" -i project/data/text.txt -o project/data --tokenizer bytes > /dev/null || exit 1
mv project/data/train_000000.bin project/data/fineweb_train_000001.bin; cp project/data/fineweb_train_000001.bin project/data/fineweb_val_000000.bin
# in place of the GPU's program: the emulated one, with small values. LAME: a rank that has no GPU; SLOW: steps enough for a signal to come between
cat > project/shim << 'SHIM'
#!/bin/bash
for option; do
    shift
    case $before in
    -e) option=d1c16h1 ;; -b) option=2 ;; -t) option=16 ;; -d) option=128 ;; -x) option=${STEPS:-4} ;; -n) option=${SAVE:-4} ;;
    -i) option=data/fineweb_train_000001.bin ;; -j) option=data/fineweb_val_000000.bin ;;
    esac
    before=$option
    set -- "$@" "$option"
done
[ "$SLURM_PROCID" != "${LAME:-}" ] || export CUDA_VISIBLE_DEVICES=-1 EMU_GPUS=1
exec "$PROGRAM" "$@"
SHIM
chmod +x project/shim
export OMPI_MCA_btl=self,tcp OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 EMU_GPUS=2 PROGRAM=$project/build/emu-plain/train_gpt2cu
cd project || exit 2
failures=0
check() {  # check NAME CONDITION...: what was said last is in `said`
    local name=$1; shift
    if "$@"; then printf 'ok      %s\n' "$name"; else printf 'FAILED  %s\n' "$name"; sed 's/^/    /' said | tail -n 25; failures=$((failures + 1)); fi
}
says() { grep -qF -- "$1" said; }
ended() { [ "$code" = "$1" ]; }
same() { cmp "$1/step_$(printf %08d "$3")/model.safetensors" "$2/step_$(printf %08d "$3")/model.safetensors" >> said 2>&1; }
cpu=("$project/train_gpt2" -i data/text.txt -e d2c32h2 -b 4 -t 32 -d 512 --leaves 4 --tokenizer bytes -s 0 -v 4 -m 2 -n 4 -x 8 --threads 1 -l 1e-3)
# submit SCRIPT OUT [NAME=VALUE...]: waits for the job; its output is in `said`, its exit code in `code`
submit() {
    local script=$1 out=$2; shift 2
    rm -f job.log
    env "$@" BIN=./shim DATA=data OUT="$out" PAUSE=1 RETRIES=2 timeout 120 sbatch --wait --quiet --output=job.log --gres=none --ntasks-per-node=2 --overcommit "scripts/multi_node/$script"
    code=$?
    cat job.log > said 2> /dev/null
}
begin() { rm -f job.log; job=$(env "$@" BIN=./shim DATA=data PAUSE=1 sbatch --parsable --output=job.log --open-mode=append --gres=none --ntasks-per-node=2 --overcommit --requeue scripts/multi_node/run_slurm_fs.sbatch); }
until_there() { for _ in $(seq 300); do compgen -G "$1" > /dev/null && return; sleep 0.1; done; echo "no $1" >> said; return 1; }
over() { for _ in $(seq 600); do [ -z "$(squeue --noheader --job "$job" 2> /dev/null)" ] && break; sleep 0.1; done; cp job.log said; }

# ranks on CPUs, which OpenMPI connects
"${cpu[@]}" -o one > said 2>&1
for ranks in 2 4; do
    timeout 60 srun --mpi=pmix --overcommit -N2 -n$ranks "${cpu[@]}" -o pmix$ranks > said 2>&1; code=$?
    check "srun --mpi=pmix, $ranks ranks on two nodes: bits of one process" eval "ended 0 && same one pmix$ranks 8"
done
timeout 60 srun --mpi=none -N2 -n2 "${cpu[@]}" -o none > said 2>&1; code=$?
check "srun --mpi=none: refused, and told how" eval "ended 2 && says 'srun: 2 processes, but nothing of PMI' && [ ! -e none ]"

# ranks on GPUs
submit run_slurm_fs.sbatch fs
check "run_slurm_fs.sbatch: two nodes, two ranks each" eval "ended 0 && says 'exchange in two levels: among the 2 ranks of a machine, then between 2 machines'"
submit run_slurm_tcp.sbatch tcp LLMC_SECRET=known
check "run_slurm_tcp.sbatch: the same bits" eval "ended 0 && same fs tcp 4"
for how in fs tcp; do
    begun=$SECONDS
    submit run_slurm_$how.sbatch lame_$how LAME=3 LLMC_SECRET=known
    check "$how, a rank without a GPU: a configuration error, at once" eval "ended 2 && says 'stops: exit code 2' && [ $((SECONDS - begun)) -lt 30 ]"
done

# signals, and what ends ranks. The undisturbed run first
submit run_slurm_fs.sbatch whole STEPS=90 SAVE=30
begin OUT=usr1 STEPS=90 SAVE=30
until_there usr1/DONE_00000030 && scancel --signal=USR1 "$job.0"
over
check "SIGUSR1 saves, and the run goes on" eval "says 'done: newest checkpoint 00000090' && same whole usr1 90 && [ \$(ls -d usr1/DONE_* | wc -l) -gt 3 ]"
begin OUT=killed STEPS=90 SAVE=30
until_there killed/DONE_00000030 && scancel --signal=KILL "$job.0"
over
check "SIGKILL of all ranks: the script goes on from the checkpoint" eval "says 'goes on from checkpoint 00000030' && same whole killed 90"
begin OUT=again STEPS=90 SAVE=30
until_there again/DONE_00000030 && scontrol requeue "$job" && sleep 2 && scontrol update "JobId=$job" StartTime=now  # Slurm would wait for two minutes
over
check "requeued: the same job goes on" eval "says 'done: newest checkpoint 00000090' && same whole again 90"
begin OUT=ended STEPS=90 SAVE=30
until_there ended/DONE_00000030 && scancel "$job"
over
saved=$(ls -d ended/DONE_* | tail -n 1)
check "scancel: it saves, and ends" eval "[ '$saved' != ended/DONE_00000030 ] && [ '$saved' != ended/DONE_00000090 ]"
submit run_slurm_fs.sbatch ended STEPS=90 SAVE=30
check "submitted again: it goes on to the same bits" eval "ended 0 && same whole ended 90"

if [ $failures = 0 ]; then echo "slurm    all right"; else echo "slurm    $failures failed"; exit 1; fi
