# The life of the package on a machine, from nothing to nothing: installed.sh ROOT DEB NEWER REPOSITORY PASSWORD-FILE
#
# ROOT is the machine's root directory, with fuse3 and autofs in it; DEB the package, NEWER one of a later version. To be run in
# mount and process namespaces of its own (unshare --mount --pid --fork --kill-child), which end whatever it leaves. Each step
# prints its name; what fails says so on stderr and ends the script.
set -eu
root=$1 deb=$2 newer=$3 repository=$4 password=$5

fail() { echo "$*" >&2; exit 1; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
# Lines of the mount table of a type, in this namespace.
mounts() { awk -v type="$1" '$3 == type { print $2 }' /proc/self/mounts; }
until_true() { # until_true SECONDS COMMAND…
    tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "still not: $*" >&2; return 1; }
        sleep 0.1
    done
}

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/srv/repository" "$root/mnt/backups" "$root/restored"
mount --bind "$repository" "$root/srv/repository"
cp "$deb" "$root/backupfs.deb"
cp "$newer" "$root/newer.deb"
# Services are not started in a chroot.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

echo "install"
inside dpkg -i /backupfs.deb >/dev/null
[ "$(stat -c %a "$root/etc/backupfs/secrets")" = 700 ] || fail "the directory of secrets is open to others"
inside backupfs --version >/dev/null
inside sh -c 'test -x /sbin/mount.backupfs && test -x /sbin/mount.fuse.backupfs' || fail "mount(8) finds no helper"

echo "configure"
cp "$password" "$root/etc/backupfs/secrets/home"
chmod 600 "$root/etc/backupfs/secrets/home"
cat >>"$root/etc/backupfs/config.toml" <<'END'
[[source]]
name = "home"
url = "/srv/repository"
password-file = "/etc/backupfs/secrets/home"
END
inside backupfs check >/dev/null

echo "mount"
echo 'home /mnt/backups backupfs noauto,ro 0 0' >>"$root/etc/fstab"
inside mount /mnt/backups
[ "$(mounts fuse.backupfs)" = "$root/mnt/backups" ] || fail "not in the mount table"

echo "restore"
file=$(cd "$root/mnt/backups" && find . -mindepth 3 -path './*@+*/2*' -type f -size +0 | sort | head -n 1)
[ -n "$file" ] || fail "no file in the mount"
inside cp -a "/mnt/backups/$file" /restored/file
cmp "$root/mnt/backups/$file" "$root/restored/file"

echo "upgrade while mounted"
exec 3<"$root/mnt/backups/$file"
inside dpkg -i /newer.deb >/dev/null
cmp "$root/restored/file" - <&3 || fail "what was open is lost"
cmp "$root/mnt/backups/$file" "$root/restored/file" || fail "the mount is lost"
grep -q '^name = "home"' "$root/etc/backupfs/config.toml" || fail "the configuration is lost"
exec 3<&-

echo "automount"
inside umount /mnt/backups
mkdir -p "$root/etc/auto.master.d"
echo '/backups program:/usr/libexec/backupfs/automap --timeout=2' >"$root/etc/auto.master.d/backupfs.autofs"
# In a process group that has a number in here: what autofs lets through is told by it.
setsid chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin automount -f -d >"$root/automount.log" 2>&1 &
until_true 20 grep -q 'mounted indirect on /backups' "$root/automount.log" || { cat "$root/automount.log" >&2; exit 1; }
cmp "$root/backups/home/$file" "$root/restored/file" || { tail -n 5 "$root/automount.log" >&2; fail "no automount"; }
[ -n "$(mounts fuse.backupfs)" ] || fail "no mount below /backups"
gone() { [ -z "$(mounts fuse.backupfs)" ]; }
until_true 30 gone
cmp "$root/backups/home/$file" "$root/restored/file" || fail "not mounted again"

echo "remove while mounted"
inside mount /mnt/backups
exec 3<"$root/mnt/backups/$file"
inside dpkg -r backupfs >/dev/null
gone || fail "still mounted: $(mounts fuse.backupfs)"
cmp "$root/restored/file" - <&3 || fail "what was open is lost"
exec 3<&-
stat "$root/mnt/backups" >/dev/null || fail "a dead mount is left"
[ -e "$root/etc/backupfs/config.toml" ] || fail "removing takes the configuration"

echo "purge"
inside dpkg -P backupfs >/dev/null 2>&1
[ ! -e "$root/var/cache/backupfs" ] || fail "the cache is left"
[ ! -e "$root/etc/backupfs/config.toml" ] || fail "the configuration is left"
[ -e "$root/etc/backupfs/secrets/home" ] || fail "the administrator's secret is gone"
echo "done"
