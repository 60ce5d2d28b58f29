#!/bin/sh
# Boots a service manager of its own: new namespaces for everything, the machine's files
# under an overlay that is gone afterwards, and /lib/systemd/systemd as process 1. It is
# run by unshare(1); SHARE is a directory that both sides see, with the program and
# deploy/. What steps.sh says is in SHARE/out, its exit code in SHARE/code.
set -eu
share=$1
root=$share/root
mkdir -p "$root"
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root/up" "$root/work" "$root/new"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/up,workdir=$root/work" "$root/new"
cd "$root/new"

mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
	: >"dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts share 2>/dev/null || mkdir -p dev/shm dev/pts share
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$share" share
: >share/console
: >dev/console
mount --bind share/console dev/console
ip link set lo up

# Of the machine's own services nothing is to start here.
rm -rf etc/systemd/system/*.wants var/lib/systemd
cp share/inkan usr/bin/inkan
cp share/deploy/inkan.service share/deploy/inkan-signer.service etc/systemd/system/
cp share/deploy/inkan.sysusers usr/lib/sysusers.d/inkan.conf
cp share/deploy/inkan.tmpfiles usr/lib/tmpfiles.d/inkan.conf
for unit in systemd-udevd systemd-udev-trigger systemd-networkd systemd-resolved systemd-timesyncd systemd-binfmt systemd-modules-load \
	systemd-sysctl systemd-random-seed systemd-update-utmp e2scrub_reap; do
	ln -sf /dev/null "etc/systemd/system/$unit.service"
done
: >etc/fstab
cat >etc/systemd/system/steps.service <<'X'
[Unit]
Description=The steps of the test
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/bin/sh /share/steps.sh >/share/out 2>&1; echo $? >/share/code'
ExecStopPost=/bin/systemctl --force exit
TimeoutStartSec=300
X

pivot_root . mnt
umount -l /mnt
mount --make-rshared / # as at every boot: credentials come in through it
exec env -i container=inkan-test PATH=/usr/bin:/usr/sbin:/bin:/sbin /lib/systemd/systemd --unit=steps.service --show-status=no
