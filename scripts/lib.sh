# shellcheck shell=bash
# lib.sh: what the run scripts share, by `source`: the data must be there, and a run that breaks goes on from its last good checkpoint, stops at a
# configuration error, and ends. What the environment may set:
#     BIN      the trainer                                                        ./train_gpt2cu
#     DATA     folder of the token shards                                         each script says which
#     OUT      folder of logs and checkpoints                                     each script says which
#     RANKS    processes, started by mpirun; unset: the trainer starts one a GPU
#     RETRIES  restarts in a row that bring no new checkpoint before it gives up  5
#     PAUSE    seconds before a restart                                           10
#     PLAN     a GPU: print what the run takes there (--plan), and train nothing; a script of one machine plans for PLAN_GPUS of them, 8
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
BIN=${BIN:-./train_gpt2cu}
launch=()      # what starts the processes; empty: the trainer itself
planned=(-pn "${PLAN_GPUS:-8}")  # the machines of --plan
hellaswag=0
if [ -n "${RANKS:-}" ]; then launch=(mpirun -np "$RANKS"); fi

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }
refuse() { say "$*" >&2; exit 2; }

# need_data PATTERN COMMAND: a file of $DATA must have such a name; the command makes it. $hellaswag becomes 1 if that is there too.
need_data() {
    if [ -n "${PLAN:-}" ]; then return; fi
    command -v "$BIN" > /dev/null || refuse "$BIN is not there: make train_gpt2cu"
    compgen -G "$DATA/$1" > /dev/null || refuse "no $DATA/$1: $2 makes them; or DATA=folder $0"
    hellaswag=1
    [ -e dev/data/hellaswag/hellaswag_val.jsonl ] || [ -e dev/data/hellaswag/hellaswag_val.bin ] || hellaswag=0
    if [ "$hellaswag" = 0 ]; then say "without HellaSwag: dev/data/hellaswag.py makes it"; fi
}

newest_checkpoint() {
    local file newest=none
    for file in "$OUT"/DONE_*; do if [ -e "$file" ]; then newest=${file##*_}; fi; done
    echo "$newest"
}

# Runs a command to its end and returns its exit code. A signal to this script alone is passed on: the trainer saves and exits. By mpirun that is SIGUSR2,
# which it hands on; of SIGTERM it makes SIGKILL a second later.
stopping=""
attempt() {
    local child code again signal=TERM
    if [ "$1" = mpirun ]; then signal=USR2; fi
    "$@" &
    child=$!
    trap 'stopping=1; kill -$signal "$child" 2> /dev/null' INT TERM HUP
    wait "$child"
    code=$?
    while [ -n "$stopping" ]; do  # a signal ended the wait, not the child; 127: there is nothing more to wait for
        wait "$child" 2> /dev/null
        again=$?
        if [ $again = 127 ]; then break; fi
        code=$again
        if ! kill -0 "$child" 2> /dev/null; then break; fi
    done
    trap - INT TERM HUP
    return $code
}

# train STEPS OPTION...: until the trainer exits with 0 (done, or asked to stop), or 2 (a configuration error, which no restart mends).
train() {
    local steps=$1 before code tries=0
    shift
    if [ -n "${PLAN:-}" ]; then exec "$BIN" --plan --gpu "$PLAN" "${planned[@]}" -x "$steps" "$@"; fi
    while true; do
        before=$(newest_checkpoint)
        attempt ${launch[@]+"${launch[@]}"} "$BIN" -o "$OUT" -x "$steps" -y 1 "$@"
        code=$?
        if [ $code = 0 ]; then say "done: newest checkpoint $(newest_checkpoint) of $steps steps, in $OUT"; exit 0; fi
        if [ $code = 2 ]; then say "stops: exit code 2, a configuration error" >&2; exit 2; fi
        if [ -n "$stopping" ]; then say "stopped, exit code $code: run it again to go on" >&2; exit $code; fi
        tries=$((tries + 1))
        if [ "$(newest_checkpoint)" != "$before" ]; then tries=1; fi
        if [ $tries -gt "${RETRIES:-5}" ]; then say "gives up, exit code $code: ${RETRIES:-5} restarts without a new checkpoint" >&2; exit 1; fi
        say "exit code $code: goes on from checkpoint $(newest_checkpoint) in ${PAUSE:-10} s, restart $tries of ${RETRIES:-5}" >&2
        sleep "${PAUSE:-10}"
        if [ -n "$stopping" ]; then exit 1; fi
    done
}
