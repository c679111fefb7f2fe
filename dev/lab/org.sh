#!/bin/sh
# org.sh: a research organisation as text files. One folder in the lab, lab/org/NAME/: what dev/lab/org/ says of roles, rules, skills and rituals, to be edited
# there; for each member a folder with its role, its mail (a Maildir) and its worktree, on a branch NAME/MEMBER of its own. Who a member is does not
# matter here: a person at a keyboard and an agent in a window (grid.sh) use the same verbs.
set -eu
fail() { echo "lab: $*" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
checkout=${LAB_CHECKOUT:-$here}  # where branches and worktrees are made
usage="org new NAME [--roles chief,scientist*8] [--base COMMIT], org who NAME, org say NAME MEMBER|all TEXT..., org read NAME [MEMBER]"

# words that become folders and branches: nothing that a path, a reference or a shell would read
word() { case $2 in '' | -* | *[!a-z0-9-]*) fail "$1 is '$2': letters a to z, digits and - are allowed, no - in front" ;; esac; }
# --git-common-dir: of all worktrees of a checkout, so that they have one lab
home() {
    if [ -n "${LAB_HOME:-}" ]; then mkdir -p "$LAB_HOME" && cd "$LAB_HOME" && pwd; return; fi
    git -C "$checkout" rev-parse --git-common-dir > /dev/null 2>&1 || fail "$checkout is in no git checkout: set LAB_HOME"
    common=$(cd "$checkout" && cd "$(git rev-parse --git-common-dir)" && pwd)
    echo "$(dirname "$common")/lab"
}
org_folder() { word "the name of an org" "$1"; folder=$lab/org/$1; [ -f "$folder/members" ] || fail "there is no org $1 in $lab/org: lab org new $1"; }
is_member() { cut -d ' ' -f 1 "$folder/members" | grep -qxF -e "$1" || fail "org $name has no member $1: $(cut -d ' ' -f 1 "$folder/members" | paste -sd ' ' -)"; }

new() {
    [ $# -ge 1 ] || fail "org new NAME [--roles chief,scientist*8]"
    name=$1 roles=chief,scientist*8 base=HEAD && shift
    word "the name of an org" "$name"
    while [ $# -gt 0 ]; do
        case $1 in
        --roles) [ $# -ge 2 ] || fail "--roles needs a value" && roles=$2 && shift 2 ;;
        --base) [ $# -ge 2 ] || fail "--base needs a value" && base=$2 && shift 2 ;;
        *) fail "org new: $1 is no option of it: --roles, --base" ;;
        esac
    done
    folder=$lab/org/$name
    [ ! -e "$folder" ] || fail "$folder is there already"
    commit=$(git -C "$checkout" rev-parse --verify -q "$base^{commit}") || fail "--base $base is no commit"

    # all is checked before anything is made: "scientist*2" is scientist-1 and scientist-2, "chief" is chief
    members=
    set -f  # the * of a count is no pattern
    for part in $(echo "$roles" | tr ',' ' '); do
        role=${part%%\**} count=${part#"${part%%\**}"} count=${count#\*}
        word "a role" "$role"
        [ -f "$here/org/roles/$role.md" ] || fail "--roles: $role is none: $(cd "$here/org/roles" && set +f && echo *.md | sed 's/\.md//g'), or write dev/lab/org/roles/$role.md"
        if [ "$part" = "$role" ]; then
            members="$members$role $role
"
        else
            case $count in '' | 0* | *[!0-9]* | ???*) fail "--roles: '$part' has no count from 1 to 99" ;; esac
            for i in $(seq "$count"); do members="$members$role-$i $role
"; done
        fi
    done
    set +f
    [ -n "$members" ] || fail "--roles names nobody"
    twice=$(printf %s "$members" | cut -d ' ' -f 1 | sort | uniq -d)
    [ -z "$twice" ] || fail "--roles names $twice twice"
    printf %s "$members" | while read -r member role; do
        if git -C "$checkout" show-ref -q --verify "refs/heads/$name/$member"; then fail "branch $name/$member is there already"; fi
    done

    mkdir -p "$folder"
    cp "$here"/org/*.md "$folder/"
    # the lab is a repository of its own; mail comes and goes while others commit there
    printf '/*/tree/\n/*/mail/\n' > "$folder/.gitignore"
    printf %s "$members" | while read -r member role; do
        mkdir -p "$folder/$member/mail/tmp" "$folder/$member/mail/new" "$folder/$member/mail/cur"
        cp "$here/org/roles/$role.md" "$folder/$member/role.md"
        git -C "$checkout" worktree add -q -b "$name/$member" "$folder/$member/tree" "$commit"
        echo "$member $role $name/$member"
    done > "$folder/members.new"
    echo "$commit" > "$folder/base"
    mv "$folder/members.new" "$folder/members"  # last: without it there is no org
    echo "$folder: $(wc -l < "$folder/members" | tr -d ' ') members, each on a branch of its own from $(git -C "$checkout" rev-parse --short "$commit"); lab grid $name opens their windows"
}

# A member a line: what it has on its branch. A commit by another's name on it is said: a window's name is in its commits (grid.sh).
who() {
    name=${1:?} && org_folder "$name"
    base=$(cat "$folder/base")
    while read -r member role branch; do
        ahead=$(git -C "$checkout" rev-list --count "$base..$branch" --)
        others=$(git -C "$checkout" log --format=%an "$base..$branch" -- | sort -u | grep -xvF -e "$member" | paste -sd ',' -) || true
        changed=$(git -C "$folder/$member/tree" status --porcelain | wc -l | tr -d ' ')
        unread=$(ls "$folder/$member/mail/new" | wc -l | tr -d ' ')
        echo "$member  $branch  $ahead commits${others:+ (of $others)}, $changed files not committed, $unread unread"
    done < "$folder/members"
}

# Who speaks: LAB_WHO, as windows have it, else the owner of the worktree in which one stands, else the name of the user.
speaker() {
    if [ -n "${LAB_WHO:-}" ]; then echo "$LAB_WHO"; return; fi
    case $(pwd -P)/ in "$(cd "$folder" && pwd -P)"/*) at=$(pwd -P) && at=${at#"$(cd "$folder" && pwd -P)"/} && echo "${at%%/*}" ;; *) id -un ;; esac
}
# As in a Maildir: written under tmp, renamed into new, so a reader never sees half a message. The name says who and when, too.
say() {
    [ $# -ge 3 ] || fail "org say NAME MEMBER|all TEXT..."
    name=$1 to=$2 && shift 2 && org_folder "$name"
    from=$(speaker | tr -cd 'A-Za-z0-9_.-')
    if [ "$to" != all ]; then is_member "$to"; fi
    cut -d ' ' -f 1 "$folder/members" | while read -r member; do
        if [ "$to" = all ] && [ "$member" = "$from" ]; then continue; fi
        if [ "$to" != all ] && [ "$member" != "$to" ]; then continue; fi
        file=$(date -u +%Y%m%dT%H%M%SZ).$$.$from mail=$folder/$member/mail
        printf 'From: %s\nTo: %s\nDate: %s\n\n%s\n' "$from" "$to" "$(date -u -R)" "$*" > "$mail/tmp/$file"
        mv "$mail/tmp/$file" "$mail/new/$file"
    done
}
# A member's mail, oldest first; what the member itself has read moves from new to cur. The text is indented: no line of it can pass for the head of another message.
read_mail() {
    name=${1:?} && org_folder "$name"
    member=${2:-$(speaker)} && is_member "$member"
    mail=$folder/$member/mail
    for file in "$mail"/cur/* "$mail"/new/*; do
        [ -e "$file" ] || continue
        sed -n '1,/^$/p' "$file" && sed '1,/^$/d; s/^/    /' "$file" && echo
        case $file in "$mail"/new/*) if [ "$(speaker)" = "$member" ]; then mv "$file" "$mail/cur/${file##*/}:2,S"; fi ;; esac
    done
}

lab=$(home)
verb=${1:-} && [ $# -eq 0 ] || shift
case $verb in
new) new "$@" ;;
who) [ $# -eq 1 ] || fail "org who NAME" && who "$@" ;;
say) say "$@" ;;
read) [ $# -ge 1 ] && [ $# -le 2 ] || fail "org read NAME [MEMBER]" && read_mail "$@" ;;
*) fail "$usage" ;;
esac
