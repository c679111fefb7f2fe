#!/bin/sh
# grid.sh: the windows of an org (org.sh), in one tmux session: first the standup, then one a member, in its worktree, each an interactive session.
#   lab grid NAME [--agent 'COMMAND LINE'] [--detach]
# Without --agent a window is a shell, for a person. With it the command line is run in each scientist's window; what it needs to know is in its environment:
# LAB_WHO, its role LAB_ROLE and the org's rules LAB_ORG, as files and a folder. When it ends, a shell stays: whoever sits down there goes on with the same verbs.
set -eu
fail() { echo "lab: $*" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
command -v tmux > /dev/null || fail "grid needs tmux (Debian: apt install tmux)"
[ $# -ge 1 ] || fail "grid NAME [--agent 'COMMAND LINE'] [--detach]"
name=$1 agent= attach=1 && shift
case $name in '' | -* | *[!a-z0-9-]*) fail "'$name' is no name of an org" ;; esac
while [ $# -gt 0 ]; do
    case $1 in
    --agent) [ $# -ge 2 ] || fail "--agent needs a value" && agent=$2 && shift 2 ;;
    --detach) attach= && shift ;;
    *) fail "grid: $1 is no option of it: --agent, --detach" ;;
    esac
done
lab=${LAB_HOME:-$(dirname "$(cd "$here" && cd "$(git rev-parse --git-common-dir)" && pwd)")/lab}
folder=$(cd "$lab" && pwd)/org/$name
[ -f "$folder/members" ] || fail "there is no org $name in $lab/org: lab org new $name"

quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
# what every window knows. The tool is the one of this checkout, not the copy in a scientist's worktree, which he may change
environment() {
    echo "export LAB_HOME=$(quoted "$lab") LAB_ORG=$(quoted "$folder") LAB_WHO=$1 GIT_AUTHOR_NAME=$1 GIT_AUTHOR_EMAIL=$1@$name GIT_COMMITTER_NAME=$1 GIT_COMMITTER_EMAIL=$1@$name" \
         "PATH=$(quoted "$here"):\"\$PATH\""
}
session=lab-$name
if ! tmux has-session -t "=$session" 2> /dev/null; then
    tmux new-session -d -s "$session" -n standup -c "$folder" "$(environment standup); while :; do clear; lab standup; sleep 60; done"
    while read -r member role branch; do
        begin="$(environment "$member") LAB_ROLE=$(quoted "$folder/$member/role.md")"
        run="cat \"\$LAB_ROLE\""
        if [ -n "$agent" ] && [ "$role" = scientist ]; then run=$agent; fi
        tmux new-window -d -t "=$session:" -n "$member" -c "$folder/$member/tree" "$begin; $run
exec \"\${SHELL:-/bin/sh}\""
    done < "$folder/members"
fi
if [ -n "$attach" ]; then exec tmux attach-session -t "=$session"; fi
echo "tmux attach -t $session: $(tmux list-windows -t "=$session" -F '#W' | paste -sd ' ' -)"
