# What the recipes of guests share: where the result goes, locks, package mirrors, namespaces.
#
# A recipe sets `program` (its path in the sources, for messages), `kind` (the directory of its results
# in the cache) and `results` (the files that a whole result has), sources this file, and calls
# `choose_result "$@"`. From then on `result` is where the result is to be; one that is there already
# has been printed, and the recipe has ended.
# shellcheck shell=bash
set -euo pipefail
umask 022

say() { printf '%s: %s\n' "$program" "$*" >&2; }

fail() { # fail MESSAGE [HINT]
    say "error: $1"
    [[ $# -lt 2 ]] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

usage() {
    sed -n 's/^# \{0,1\}//; 2,/^set /{/^set /!p}' "$0" >&2
}

# --- Where to. -----------------------------------------------------------------------------------

# Of the contents, the names and the executable bit: what a checkout preserves.
recipe_of() { # recipe_of DIRECTORY FIND_ARGUMENT...
    local directory=$1
    shift
    cd "$directory"
    find "$@" -type f ! -name '*~' ! -name '.*.sw?' -print0 | LC_ALL=C sort -z |
        while IFS= read -r -d '' file; do
            [[ -x $file ]] && mode=x || mode=-
            printf '%s %s ' "$mode" "$file"
            sha256sum <"$file"
        done | sha256sum | cut -d ' ' -f 1
}

is_complete() {
    local file
    for file in "${results[@]}"; do
        [[ -f $1/$file ]] || return 1
    done
}

reuse() {
    say "present: $1"
    printf '%s\n' "$1"
    exit 0
}

choose_result() { # choose_result RECIPE ARGUMENT...
    recipe=$1
    shift
    cache=
    while (($#)); do
        case $1 in
        --out)
            (($# > 1)) || fail '--out needs a directory'
            cache=$2
            shift 2
            ;;
        --out=*)
            cache=${1#--out=}
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown argument: $1" "usage: $program [--out CACHE_DIR]" ;;
        esac
    done
    if [[ -z $cache ]]; then
        local shared=/var/cache/steading/$kind
        if [[ -n ${STEADING_CACHE_DIR:-} ]]; then
            cache=$STEADING_CACHE_DIR/$kind
        elif is_complete "$shared/$recipe"; then
            reuse "$shared/$recipe"
        elif [[ -w $shared ]] || { [[ ! -e $shared ]] && mkdir -p "$shared" 2>/dev/null; }; then
            cache=$shared
        else
            cache=${XDG_CACHE_HOME:-$HOME/.cache}/steading/$kind
        fi
    fi
    mkdir -p "$cache" || fail "cannot make the cache directory $cache" 'name another one with --out'
    cache=$(readlink -f "$cache")
    result=$cache/$recipe
    if is_complete "$result"; then
        reuse "$result"
    fi
}

# --- What it takes. ------------------------------------------------------------------------------

export PATH=$PATH:/usr/sbin:/sbin

need() { # need TOOL PACKAGE
    command -v "$1" >/dev/null || fail "$1 is missing" "apt-get install --no-install-recommends $2"
}

choose_mode() {
    local user
    user=$(id -un)
    if ((EUID == 0)); then
        say 'mode root: running as root'
        mode=root
    elif command -v newuidmap >/dev/null && grep -qs "^\($user\|$UID\):" /etc/subuid &&
        grep -qs "^\($user\|$UID\):" /etc/subgid && mmdebstrap --unshare-helper true 2>/dev/null; then
        say "mode unshare: $user has subordinate ids and may make user namespaces"
        mode=unshare
    elif command -v fakechroot >/dev/null && command -v fakeroot >/dev/null; then
        say 'mode fakechroot: newuidmap, a range in /etc/subuid or user namespaces are missing'
        mode=fakechroot
    else
        fail "$user can neither make a user namespace with subordinate ids nor use fakechroot" \
            "apt-get install --no-install-recommends uidmap, and a line for $user in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user); or apt-get install fakechroot fakeroot"
    fi
}

# The host's own Debian mirrors, as one-line entries: the suites of a release, component main. A release
# that the host does not name is taken from where its bookworm is.
debian_sources() { # debian_sources RELEASE
    local release=$1
    bookworm_sources | sed "s/ bookworm\\(-[a-z]*\\)\\? main$/ $release\\1 main/" | sort -u
}

bookworm_sources() {
    local file
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/*.sources; do
        [[ -r $file ]] || continue
        # An entry of the deb822 format is a paragraph of "Field: values" lines.
        awk '
            function field(name) { return tolower(name) in fields ? fields[tolower(name)] : "" }
            function flush_entry(    uris, suites, i, j, n, m, option) {
                if (field("Types") ~ /(^| )deb( |$)/ && field("Components") ~ /(^| )main( |$)/ &&
                    tolower(field("Enabled")) != "no") {
                    option = field("Signed-By") ~ /^\// ? "[signed-by=" field("Signed-By") "] " : ""
                    n = split(field("URIs"), uris, " ")
                    m = split(field("Suites"), suites, " ")
                    for (i = 1; i <= n; i++)
                        for (j = 1; j <= m; j++)
                            if (suites[j] ~ /^bookworm/ && suites[j] !~ /backports|proposed/)
                                print "deb " option uris[i] " " suites[j] " main"
                }
                delete fields
            }
            /^#/ { next }
            /^[ \t]*$/ { flush_entry(); next }
            /^[^ \t][^:]*:/ {
                value = $0
                sub(/^[^:]*:[ \t]*/, "", value)
                sub(/[ \t]+$/, "", value)
                fields[tolower(substr($0, 1, index($0, ":") - 1))] = value
            }
            END { flush_entry() }
        ' "$file"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $file ]] || continue
        # deb [options] URI SUITE COMPONENT...
        sed -nE 's/^deb[ \t]+((\[[^]]*\][ \t]+)?[^ \t]+[ \t]+bookworm(-updates|-security)?)[ \t]+(.*[ \t])?main([ \t].*)?$/deb \1 main/p' "$file"
    done
}

# Compiles the reference guest's own programs. Static, as the guest's C library need not be this machine's.
compile_programs() { # compile_programs GUEST DIRECTORY
    local program
    for program in hasten-network thaw init; do
        gcc -std=gnu17 -O2 -Wall -Wextra -static -s -o "$2/$program" "$1/$program.c"
    done
}

# What the kernel of the reference guest, and of others made of it, is told wherever it boots from.
# Why each of these is there: README.md, "The kernel's command line".
# shellcheck disable=SC2034 # it is read by those who source this
readonly boot_parameters='console=ttyS0 mitigations=off audit=0 cryptomgr.notests lsm=landlock,yama,bpf norandmaps init_on_alloc=0 transparent_hugepage=madvise no_timer_check'

# --- The work, by one process at a time. ---------------------------------------------------------

# Two directories: `work`, beside the result, so that the result is one rename away; and `scratch`,
# where mmdebstrap's tree lies, which users of the namespace must be able to reach, as they may not
# be in a home directory. A link in `work` remembers `scratch`, for when we are killed.
remove_work() { # remove_work WORK
    local old
    old=$(readlink "$1/scratch" || true)
    if [[ -n $old && -d $old && -O $old ]]; then
        # Files of the namespace's users belong to none of our ids outside it.
        rm -rf "$old" 2>/dev/null || mmdebstrap --unshare-helper rm -rf "$old"/tree "$old"/mmdebstrap.* || true
        rm -rf "$old" || say "cannot remove $old"
    fi
    rm -rf "$1"
}

# Makes `work`, `scratch` and `work/sources.list`, and sees to it that they go again.
begin_work() { # begin_work RELEASE
    exec {lock}>"$cache/.lock" || fail "cannot write to $cache" 'name another directory with --out'
    flock --nonblock "$lock" || {
        say "waiting for another build in $cache"
        flock "$lock"
    }
    if is_complete "$result"; then
        reuse "$result"
    fi
    local stale
    for stale in "$cache"/.building.*; do
        [[ -d $stale ]] || continue
        say "removing $stale, left by a build that was killed"
        remove_work "$stale"
    done
    # A directory with the right name that lacks a file is no result of ours.
    rm -rf "$result"

    choose_mode
    work=$cache/.building.$recipe
    mkdir "$work" "$work/result"
    trap 'remove_work "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/steading-guest.XXXXXXXX")
    ln -s "$scratch" "$work/scratch"
    chmod 1777 "$scratch"
    debian_sources "$1" >"$work/sources.list"
    grep -q . "$work/sources.list" || fail "the host's apt sources name no Debian bookworm mirror" \
        'add one to /etc/apt/sources.list.d/debian.sources'
    export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(date +%s)}"
}

# mmdebstrap, with what it prints kept for when it fails. The tree is thrown away: a hook writes what is
# made of it to descriptor 9, which is a file of ours, since root of the namespace cannot write to our
# directories. INITRD=No: no initial RAM disk of Debian's. --skip=cleanup: a hook leaves nothing of apt's.
bootstrap() { # bootstrap RELEASE PACKAGES_FILE OUTPUT MMDEBSTRAP_ARGUMENT...
    local release=$1 packages output=$3 log=$work/mmdebstrap.log
    packages=$(sed '/^#/d' "$2" | paste -sd,)
    shift 3
    say 'installing packages'
    if ! TMPDIR=$scratch INITRD=No mmdebstrap --mode="$mode" --format=null --skip=cleanup --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        "$@" "$release" - "$work/sources.list" 9>"$output" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail 'mmdebstrap failed; its last lines are above' 'if packages could not be fetched: does "apt-get update" work on this machine?'
    fi
}

# Renames `work/result` to where it is looked for, and prints that.
finish() {
    chmod 0444 "$work"/result/*
    sync "$work"/result/*
    mv --no-target-directory "$work/result" "$result"
    say "done: $result"
    printf '%s\n' "$result"
}
