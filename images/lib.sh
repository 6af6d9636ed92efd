# shellcheck shell=bash
# What the recipes in this directory share. Source it after `set -euo pipefail`.

# shellcheck disable=SC2034  # for the recipes
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

need() {  # need COMMAND PACKAGE
    command -v "$1" >/dev/null || die "$1 is missing: install the package $2 (make deps)"
}
export PATH=$PATH:/usr/sbin:/sbin   # depmod, mke2fs, ethtool for those who are not root

# A scratch directory beside the result, so that the last step of every recipe is a rename on one file system.
tmp=
scratch() {  # scratch OUTPUT: sets $tmp
    mkdir -p "$(dirname "$1")"
    tmp=$(mktemp -d "$(dirname "$1")/.$(basename "$1").XXXXXX")
    chmod 755 "$tmp"
    trap 'rm -rf "$tmp"' EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT HUP
}

replace_dir() {  # replace_dir NEW OLD: NEW takes OLD's place
    if [ -e "$2" ]; then mv "$2" "$tmp/replaced"; fi
    mv "$1" "$2"
}

apt_update() {
    say "refreshing the package lists"
    apt-get update -qq || die "apt-get update failed: run it as root and check the network"
}

# The package lists may be missing, or older than the archive (which deletes what was superseded): retry once after an update.
fetch() {  # fetch DIR PACKAGE...: prints the path of each PACKAGE's .deb, downloaded into DIR unless all are there
    local dir=$1 names name try missing
    shift
    mkdir -p "$dir"
    for try in 1 2; do
        [ $try = 1 ] || apt_update
        mapfile -t names < <(apt-get download --print-uris "$@" 2>/dev/null | awk '{ print $2 }')
        [ ${#names[@]} = $# ] || continue
        missing=
        for name in "${names[@]}"; do [ -s "$dir/$name" ] || missing=1; done
        if [ -n "$missing" ]; then
            (cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2) || continue
            mv -t "$dir" "${names[@]/#/$tmp/}"
        fi
        printf '%s\n' "${names[@]/#/$dir/}"
        return
    done
    die "cannot download $*"
}

depends_on() {  # depends_on METAPACKAGE PREFIX: the package with that prefix which METAPACKAGE now stands for
    local name try
    for try in 1 2; do
        [ $try = 1 ] || apt_update
        name=$(apt-cache depends "$1" 2>/dev/null | awk -v p="$2" '$1 == "Depends:" && index($2, p) == 1 { print $2; exit }')
        if [ -n "$name" ]; then printf '%s\n' "$name"; return; fi
    done
    die "apt does not know the package $1"
}

unpack() {  # unpack DIR DEBS PACKAGE...: what is in the packages, into DIR
    local dir=$1 debs deb
    shift
    debs=$(fetch "$@")
    while read -r deb; do dpkg -x "$deb" "$dir"; done <<<"$debs"
}

# Their loader cannot be asked about another architecture's programs; what the linker wrote into them can.
copy_program() {  # copy_program FROM ROOT FILE: FILE of the tree FROM, with its loader and its libraries
    local from=$1 root=$2 file=$3 name
    [ ! -e "$root/$file" ] || return 0
    install -D -m 755 "$from/$file" "$root/$file"
    readelf -ld "$from/$file" | sed -n 's/.*interpreter: \/\(.*\)\]/\1/p; s/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r name; do
        [ -e "$from/$name" ] || name=$(find "$from" -name "$name" -printf '%P\n' -quit)
        [ -n "$name" ] || die "$file wants what its packages do not have"
        copy_program "$from" "$root" "$name"
    done
}

# Copy modules and what they depend on into the tree ROOT; built-in and unknown ones are skipped.
copy_modules() {  # copy_modules MODULES VERSION ROOT NAME...
    local from version=$2 root=$3 name file
    from=$(realpath "$1")
    shift 3
    for name; do
        modprobe -d "$from" -S "$version" --show-depends "$name" 2>/dev/null |
            awk '$1 == "insmod" { print $2 }' || true
    done | sort -u | while read -r file; do
        install -D -m 644 "$file" "$root/${file#"$from/"}"
    done
    for name in modules.order modules.builtin; do
        install -D -m 644 "$from/lib/modules/$version/$name" "$root/lib/modules/$version/$name"
    done
    depmod -b "$root" "$version" 2>/dev/null   # it misses modules.builtin.modinfo, which nobody needs
    # busybox reads the text files only.
    rm -f "$root/lib/modules/$version"/modules.*.bin
}

pack_cpio() {  # pack_cpio DIR OUTPUT
    (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) > "$2"
}
