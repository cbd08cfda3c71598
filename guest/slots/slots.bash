# What the recipes of guests with two slots share: versions of the system, signed updates to these, and a disk
# with the first.
#
# A recipe sets `kind`, `slot_mib`, `data_mib` and `versions`, sources this file, and calls `build_slots "$@"`.
# In its directory it has `packages`; it may have `configure-root`, which is run after the one here, and
# `modules`, kernel modules beside those of the one here.
#
# The result is CACHE_DIR/RECIPE/{disk.img.zst,update-VERSION.raucb,manifest.json}.
# shellcheck shell=bash

# shellcheck disable=SC2154 # the recipe has set `kind`, `versions`, `slot_mib` and `data_mib`
program=guest/$kind/build results=(manifest.json disk.img.zst)
for version in "${versions[@]}"; do
    results+=("update-$version.raucb")
done
guest=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/..
# shellcheck source=guest/common.bash
. "$guest/common.bash"

readonly esp_mib=8
# tsc=unstable: nobody tells a kernel that firmware boots how fast the time stamp counter is, and on a busy host
# it finds out wrongly under emulation; then its clock runs too fast, and its time limits are too short.
readonly cmdline="$boot_parameters tsc=unstable rootfstype=squashfs steading.var=PARTLABEL=data panic=1"

build_slots() { # build_slots ARGUMENT...
    local others=() directory
    for directory in "$guest"/*/; do
        directory=${directory%/}
        case ${directory##*/} in
        root | slots | "$kind") ;;
        *) others+=(-path "./${directory##*/}" -o) ;;
        esac
    done
    choose_result "$(recipe_of "$guest" . '(' "${others[@]}" -false ')' -prune -o)" "$@"
    need_for_slots
    begin_work bookworm
    make_key
    install_tree
    make_updates
    make_disk
    # Names and versions of Debian packages need no escaping.
    local packages updates
    packages=$(sed -E 's/^([^ ]+) ([^ ]+)$/"\1":"\2"/' "$work/parts/packages" | paste -sd,)
    updates=$(printf '%s\n' "${versions[@]}" | sed 's/.*/"&":"update-&.raucb"/' | paste -sd,)
    cat >"$work/result/manifest.json" <<END
{"version":1,"recipe":"$recipe","disk":"disk.img.zst","updates":{$updates},"packages":{$packages}}
END
    finish
}

need_for_slots() {
    need mmdebstrap mmdebstrap
    need mkfs.ext4 e2fsprogs
    need mkfs.vfat dosfstools
    need mcopy mtools
    need sfdisk fdisk
    need zstd zstd
    need cpio cpio
    need modprobe kmod
    need gcc 'gcc libc6-dev'
    need mksquashfs squashfs-tools
    need rauc rauc
    need openssl openssl
    need grub-mkimage grub-common
    need flock util-linux
    [[ -r /usr/lib/grub/x86_64-efi/normal.mod ]] ||
        fail 'GRUB for UEFI is missing' 'apt-get install --no-install-recommends grub-efi-amd64-bin'
}

# Who signs updates. The key goes with the build: nobody can sign another.
make_key() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj "/CN=Updates of the $kind guest" \
        -keyout "$work/key.pem" -out "$work/keyring.pem" 2>"$work/openssl.log" || {
        cat "$work/openssl.log" >&2
        fail 'openssl cannot make a key and a certificate'
    }
}

# Makes `work/parts`: what export-root here writes.
install_tree() {
    # The scripts that run inside the namespace, where it can read them.
    mkdir "$scratch/recipe"
    cp -r "$guest/." "$scratch/recipe/"
    cp "$work/keyring.pem" "$scratch/recipe/slots/"
    compile_programs "$guest" "$scratch/recipe"
    chmod -R a+rX "$scratch/recipe"
    bootstrap bookworm "$guest/$kind/packages" "$work/parts.tar" --variant=essential \
        --customize-hook="'$scratch/recipe/slots/export-root' \"\$1\" $kind $data_mib ${versions[*]} >&9"
    mkdir "$work/parts"
    tar --extract --sparse --file "$work/parts.tar" --directory "$work/parts"
    rm "$work/parts.tar"
}

make_updates() {
    local version input
    say 'making the updates'
    for version in "${versions[@]}"; do
        input=$work/update-$version
        mkdir "$input"
        ln "$work/parts/images/root-$version.img" "$input/root.img"
        cat >"$input/manifest.raucm" <<END
[update]
compatible=steading-$kind
version=$version

[bundle]
format=verity

[image.rootfs]
filename=root.img
END
        # What is in it is compressed already.
        rauc --cert "$work/keyring.pem" --key "$work/key.pem" --keyring "$work/keyring.pem" \
            bundle --mksquashfs-args='-noI -noD -noF -noX -quiet -no-progress' \
            "$input" "$work/result/update-$version.raucb" >"$work/rauc.log" 2>&1 || {
            tail -n 20 "$work/rauc.log" >&2
            fail "rauc cannot make the update to version $version"
        }
        rm -r "$input"
    done
}

make_disk() {
    local disk=$work/disk.img esp=$work/esp.img images=$work/parts/images
    say 'making the disk'
    truncate --size $((1 + esp_mib + 2 * slot_mib + data_mib + 1))M "$disk"
    sfdisk --quiet "$disk" <<END
label: gpt
start=1MiB, size=${esp_mib}MiB, type=uefi, name=esp
size=${slot_mib}MiB, type=linux, name=root-A
size=${slot_mib}MiB, type=linux, name=root-B
size=${data_mib}MiB, type=linux, name=data
END
    truncate --size "${esp_mib}M" "$esp"
    mkfs.vfat -n ESP "$esp" >/dev/null
    grub-mkimage --format x86_64-efi --prefix /grub --output "$work/BOOTX64.EFI" \
        part_gpt fat squash4 normal linux loadenv test regexp echo reboot boot
    sed "s|@cmdline@|$cmdline|" "$guest/slots/grub.cfg" >"$work/grub.cfg"
    grub-editenv "$work/grubenv" create
    grub-editenv "$work/grubenv" set 'ORDER=A B' A_OK=1 A_TRY=0 B_OK=0 B_TRY=0
    export MTOOLS_SKIP_CHECK=1
    mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/grub
    mcopy -i "$esp" "$work/BOOTX64.EFI" ::/EFI/BOOT/
    mcopy -i "$esp" "$work/grub.cfg" "$work/grubenv" ::/grub/
    put "$esp" 1 "$esp_mib"
    put "$images/root-1.img" $((1 + esp_mib)) "$slot_mib"
    put "$images/data.img" $((1 + esp_mib + 2 * slot_mib)) "$data_mib"
    zstd --quiet -T0 -3 "$disk" -o "$work/result/disk.img.zst"
}

put() { # put IMAGE OFFSET_MIB ROOM_MIB: into the disk at this offset
    local size
    size=$(stat --format %s "$1")
    ((size <= $3 << 20)) || fail "${1##*/} has $size bytes, and its partition $3 MiB"
    dd if="$1" of="$work/disk.img" bs=1M seek="$2" conv=notrunc,sparse status=none
}
