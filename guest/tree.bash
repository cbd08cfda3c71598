# What export scripts share, which run as root of mmdebstrap's namespace, where every file has its
# right owner.
# shellcheck shell=bash

# Makes `out`, a directory for what is exported, and sees to it that it goes again.
begin_export() { # begin_export ROOT
    root=$1 tree=$1
    # Beside the tree, where the builder looks for what a killed build has left.
    out=$(mktemp -d -p "$(dirname "$root")")
    trap end_export EXIT
}

end_export() {
    [[ $tree == "$root" ]] || umount --recursive "$tree"
    rm -rf "$out"
}

# Names the kernel that is installed: its file and its release.
find_kernel() {
    local kernels=("$root"/boot/vmlinuz-*)
    kernel=${kernels[0]}
    # shellcheck disable=SC2034 # it is read by those who source this
    release=${kernel##*/vmlinuz-}
}

# "name version" a line.
list_packages() {
    # shellcheck disable=SC2016 # the format is dpkg's
    chroot "$root" dpkg-query --show --showformat='${Package} ${Version}\n'
}

# The files of the modules that lists name as of this kind, with their dependencies before them, each once.
modules_of() { # modules_of KIND LIST...
    local kind=$1
    shift
    # modprobe names built-in ones too.
    sed -n "s/^$kind //p" "$@" | while read -r module; do
        modprobe --dirname "$root" --set-version "$release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# Makes the initial RAM disk `out/initrd`: a program, and the modules that lists name as `boot`, which it
# loads in order, and `asked`. It is not compressed: it is small, and unpacking is the emulated
# CPU's work.
write_initrd() { # write_initrd INIT LIST...
    local initrd=$out/initrd.d
    mkdir -p "$initrd"/{dev,proc,sys,run,root,modules}
    cp "$1" "$initrd/init"
    shift
    modules_of boot "$@" | while read -r path; do
        cp "$path" "$initrd/modules/"
        echo "${path##*/}" >>"$initrd/modules/order"
    done
    modules_of asked "$@" | while read -r path; do
        cp "$path" "$initrd/modules/"
    done
    (cd "$initrd" && find . -print | LC_ALL=C sort | cpio --quiet --create --format newc --owner 0:0) >"$out/initrd"
}

# Makes `tree` the installed tree without what mmdebstrap has mounted in it: /proc, /sys and device
# nodes. In fakechroot mode there are no mounts.
plain_tree() {
    local link target
    # Links to absolute paths that were made under fakechroot point to where the tree is now.
    find "$root" -xdev -lname "$root/*" -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
        ln --symbolic --force --no-dereference "${target#"$root"}" "$link"
    done
    mkdir "$out/tree"
    if mount --bind "$root" "$out/tree" 2>/dev/null; then
        tree=$out/tree
        mount -t tmpfs -o mode=0755 dev "$tree/dev"
    fi
    find "${tree:?}"/{run,tmp} -mindepth 1 -delete
}

# ext4 with its journal, since guests are killed; without checksums of metadata and lazily
# initialised tables, work that an emulated CPU would do at every boot.
write_ext4() { # write_ext4 MIB
    truncate --size "${1}M" "$out/root.img"
    mkfs.ext4 -q -L root -O ^metadata_csum,^metadata_csum_seed,^orphan_file -m 0 \
        -E lazy_itable_init=0,lazy_journal_init=0 -J size=16 -d "$tree" "$out/root.img"
}

# Writes these files of `out` to standard output.
end_with_archive() { # end_with_archive FILE...
    tar --create --sparse --owner 0 --group 0 --numeric-owner --directory "$out" "$@"
}
