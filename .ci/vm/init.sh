#!/usr/busybox/busybox sh
# The guest's first process. The kernel's messages go to the first serial line, the jobs' output, between markers, to another.
export PATH=/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/usr/busybox HOME=/root TMPDIR=/tmp LC_ALL=C USER=root

/usr/busybox/busybox --install -s /usr/busybox
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t tracefs trace /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp

# Without line discipline, or a newline becomes two characters and a control character an action.
# The kernel makes a variable of each argument of the form name=value that it does not know itself.
stty -F "$line" raw -echo
exec 4>"$line"
say() { printf '\n@@vm %s\n' "$*" >&4; }

say boot "$(uname -r)"
loaded=0
while read -r name; do
	if why=$(insmod "/modules/$name.ko" 2>&1); then
		loaded=$((loaded + 1))
	else
		say module "$name" "$why"
	fi
done </modules/order
say modules "$loaded"

ip link set lo up
ulimit -n 1048576

# A guest whose kernel is broken ends at once, with the reason on its console, instead of hanging until the deadline.
echo 7 >/proc/sys/kernel/printk
echo 1 >/proc/sys/kernel/panic_on_oops
echo 40 >/proc/sys/kernel/hung_task_timeout_secs
echo 1 >/proc/sys/kernel/hung_task_panic

# job NUMBER DIRECTORY COMMAND...: the pipe keeps a program from taking the serial line for a person's terminal.
job() {
	local number=$1
	cd "$2" || return
	shift 2
	say start "$number"
	{
		"$@"
		echo $? >/tmp/.exit
	} </dev/null 2>&1 | cat >&4
	say exit "$number" "$(cat /tmp/.exit)"
	rm -f /tmp/.exit
	cd /
}

. /jobs

say end
exec 4>&- # closing a serial line waits until it is drained
poweroff -f
