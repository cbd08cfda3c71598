# A tree of Debian sid that an ordinary user makes and enters; `newer` and `remote` source this.
#
# A plain chroot may make no user namespaces (unshare(2), EPERM), so the tree is entered by pivot_root(2),
# in namespaces of this user.
# shellcheck shell=bash

# What tests and Bazel need in the tree.
# shellcheck disable=SC2034 # It is the caller's.
SID_PACKAGES=bazel-bootstrap,ca-certificates,dnsmasq-base,file,iproute2,ovmf,procps,qemu-system-x86,qemu-utils,unzip,util-linux,zip

# Of the workspace that is tested, and of all sources.
example=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")/example
project=$(dirname "$(dirname "$example")")

fail() {
    echo "error: $1" >&2
    [[ -z ${2-} ]] || echo "hint: $2" >&2
    exit 1
}

# Refuses root, and finds what the tests are made of: STEADING_PROGRAMS and STEADING_GUEST.
sid_inputs() {
    ((UID != 0)) || fail "this is root" "run it as an ordinary user: what is tried here needs no root"
    export STEADING_PROGRAMS=${STEADING_PROGRAMS:-$project/target/debug}
    [[ -x $STEADING_PROGRAMS/suite-health ]] ||
        fail "there is no suite-health in $STEADING_PROGRAMS" "cargo build --workspace --bins; or set STEADING_PROGRAMS"
    [[ -n ${STEADING_GUEST-} ]] || fail "STEADING_GUEST is not set" "export STEADING_GUEST=\$(guest/build)"
}

# sid_make ROOT PACKAGES: the tree, unless it is there.
sid_make() {
    local root=$1 packages=$2
    [[ ! -e $root/.complete ]] || return 0
    echo "fetching Debian sid to $root" >&2
    rm -rf "$root" && mkdir -p "$root"
    # All is one user's, for there is one user in the namespace that it is entered in. The lists of a
    # mirror that is a snapshot have expired.
    mmdebstrap --aptopt='Acquire::Check-Valid-Until "false"' --mode=unshare --variant=minbase \
        --skip=cleanup/reproducible --include="$packages" sid - |
        tar -x -C "$root" --no-same-owner --exclude=./dev/'*'
    touch "$root/.complete"
}

# sid_unshare [OPTION]... -- SCRIPT ARGUMENT...: runs a script in namespaces of this user, with the capabilities that
# sid_enter needs. All that it starts ends with it, and with this.
sid_unshare() {
    local options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    setpriv --pdeathsig KILL unshare --user --map-current-user --keep-caps --mount --pid --fork --kill-child \
        "${options[@]}" /bin/bash "$@" &
    # unshare(1) itself heeds nothing less while it waits.
    # shellcheck disable=SC2064 # That process.
    trap "kill -KILL $!; exit 143" HUP INT TERM
    wait "$!"
}

# sid_mount ROOT HOME: brings into the tree what is to be there. HOME, sources, programs and guest are where they are outside.
sid_mount() {
    local root=$1 home=$2 directory
    mount --bind "$root" "$root"
    for directory in sys dev tmp; do
        mount --rbind "/$directory" "$root/$directory"
    done
    # With the processes of this namespace and no others; Bazel looks for its server there by its number here.
    mount -t proc proc "$root/proc"
    for directory in "$project" "$STEADING_GUEST" "$STEADING_PROGRAMS" "$home"; do
        mkdir -p "$root$directory"
        mount --bind "$directory" "$root$directory"
    done
}

# sid_enter ROOT HOME [VARIABLE=VALUE]... -- SCRIPT ARGUMENT...: becomes a script in the tree, without capabilities.
sid_enter() {
    local root=$1 home=$2 environment=()
    shift 2
    while [[ $1 != -- ]]; do
        environment+=("$1")
        shift
    done
    shift
    cd "$root" || fail "there is no $root"
    mkdir -p outside
    pivot_root . outside
    cd /
    umount --lazy /outside
    exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
        env -i PATH=/usr/bin:/usr/sbin HOME="$home" USER=steading TERM=dumb LANG=C.UTF-8 \
        STEADING_GUEST="$STEADING_GUEST" STEADING_PROGRAMS="$STEADING_PROGRAMS" \
        "${environment[@]}" /bin/bash "$@"
}

# bazel_options HOME: sets `startup` and `options`, with which Bazel 7 needs no network.
# shellcheck disable=SC2034 # Both are the caller's.
bazel_options() {
    local home=$1 module
    startup=("--output_user_root=$home/root" --host_jvm_args=-Xmx512m)
    options=(
        --noenable_workspace --lockfile_mode=off "--registry=file://$home/registry"
        --experimental_convenience_symlinks=ignore --color=no
    )
    # Modules that Bazel 7 brings in by itself and fetches; none of them is used here.
    for module in apple_support buildozer protobuf zlib; do
        mkdir -p "$home/stubs/$module"
        printf 'module(name = "%s")\n' "$module" >"$home/stubs/$module/MODULE.bazel"
        : >"$home/stubs/$module/BUILD.bazel"
        options+=("--override_module=$module=$home/stubs/$module")
    done
    mkdir -p "$home/registry"
    echo '{}' >"$home/registry/bazel_registry.json"
}
