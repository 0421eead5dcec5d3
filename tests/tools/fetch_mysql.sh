#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fetch_mysql.sh DIRECTORY: puts a real MySQL server into DIRECTORY without touching the system.
#
# MySQL and MariaDB cannot be installed side by side from the distribution's packages, so the packages are
# downloaded with a private apt state, unpacked below DIRECTORY/root, and run with their own libraries through small
# wrappers: DIRECTORY/mysqld, DIRECTORY/mysql. Nothing is installed and root is not needed. The mirror is the one the
# machine itself uses, and apt checks its signatures. Debian's stable suites have no MySQL: its unstable suite is read;
# Ubuntu's own suite has it. A second call finds everything in place and only rewrites the wrappers; the downloaded
# packages are kept in DIRECTORY/packages, which may be cached.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ]; then
    echo "usage: fetch_mysql.sh DIRECTORY" >&2
    exit 2
fi
target=$(realpath -m "$1")
. /etc/os-release

# The first address of the distribution's own archive in any of apt's source files.
find_mirror() {
    local files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list)
    { cat "${files[@]}" 2>/dev/null || true; } |
        awk -v pattern="/$1/?\$" '
            /^[[:space:]]*#/ { next }
            /^URIs:/ { for (i = 2; i <= NF; i++) if ($i ~ pattern) found = found ? found : $i }
            /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\// && $i ~ pattern) found = found ? found : $i }
            END { print found }'
}

case "${ID:-} ${ID_LIKE:-}" in
    *ubuntu*)
        suite=$VERSION_CODENAME components="main universe" archive='ubuntu(-ports)?'
        keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
        packages="mysql-server-core-8.0 mysql-client-core-8.0" ;;
    *)
        suite=sid components=main archive=debian
        keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        packages="mysql-server-core mysql-client-core" ;;
esac

download() {
    local mirror apt="$target/.apt"
    mirror=$(find_mirror "$archive")
    if [ -z "$mirror" ]; then
        echo "fetch_mysql: no package mirror found in /etc/apt: add one or put MySQL's programs into $target" >&2
        exit 1
    fi
    mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$apt"/preferences.d "$target"/packages/partial
    : >"$apt/status"
    echo "deb [signed-by=$keyring] $mirror $suite $components" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "$apt/preferences.d";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$target/packages/";
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Retries "3";
CONF
    APT_CONFIG="$apt/apt.conf" apt-get -qq update
    # shellcheck disable=SC2086
    APT_CONFIG="$apt/apt.conf" apt-get -qq -y -d -o Debug::NoLocking=1 install $packages >/dev/null
    rm -rf "$apt"
}

unpack() {
    local staging="$target/root.new" package
    rm -rf "$staging"
    mkdir -p "$staging"
    for package in "$target"/packages/*.deb; do
        case ${package##*/} in
            perl* | libperl* | libdb5* | debconf* | dpkg_* | tar_* | *gconv*) ;;
            *) dpkg-deb -x "$package" "$staging" ;;
        esac
    done
    rm -rf "$staging"/usr/share/{doc,man,locale,lintian}
    rm -rf "$target/root"
    mv "$staging" "$target/root"
}

# The dynamic loader of the unpacked C library runs the program; --argv0 gives it its own name, not the loader's.
# mysqld is told where its files are; --no-defaults, when given, must stay first.
write_wrapper() {
    local name=$1 program=$2 options=${3:-}
    local root="$target/root" loader libraries
    loader=$(find "$root/" -name 'ld-linux*.so.*' -path '*linux-gnu*' -print -quit)
    libraries=$({ find "$root/usr/lib" "$root/lib" -maxdepth 1 -type d -name '*-linux-gnu*' 2>/dev/null || true; } |
        paste -sd:)
    cat >"$target/$name.new" <<WRAPPER
#!/bin/sh
[ "\$1" != --no-defaults ] || shift
exec '$loader' --library-path '$libraries:$root/usr/lib/mysql/private' \\
    --argv0 '$root/$program' '$root/$program' --no-defaults $options "\$@"
WRAPPER
    chmod 755 "$target/$name.new"
    mv "$target/$name.new" "$target/$name"
}

mkdir -p "$target"
exec 9>"$target/.lock"
flock 9
if ! [ -x "$target/root/usr/sbin/mysqld" ]; then
    ls "$target"/packages/mysql-server-core*.deb >/dev/null 2>&1 || download
    unpack
fi
usr=$target/root/usr
write_wrapper mysqld usr/sbin/mysqld \
    "--basedir='$usr' --plugin-dir='$usr/lib/mysql/plugin' --lc-messages-dir='$usr/share/mysql'"
write_wrapper mysql usr/bin/mysql
"$target/mysqld" --no-defaults --version
