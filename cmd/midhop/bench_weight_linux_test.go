package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkWeight is what `midhop watch` of a machine with so many connected sockets weighs, and what it costs while all of
// them are healthy. Anonymous memory and the memory of BPF maps are midhop's own; the resident set counts the pages of the
// program file too, which the kernel may drop.
func BenchmarkWeight(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for _, n := range []int{0, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sockets=%d", n), func(b *testing.B) {
			for b.Loop() {
				const each = 16_000 // files that one process may have open, where nobody has raised the limit
				for left := n; left > 0; left -= each {
					holdPairs(b, min(left, each)/2)
				}
				w := weigh(b)
				b.ReportMetric(w.anon/1e6, "anon-MB")
				b.ReportMetric(w.maps/1e6, "maps-MB")
				b.ReportMetric((w.anon+w.maps)/1e6, "own-MB")
				b.ReportMetric(w.resident/1e6, "rss-MB")
				b.ReportMetric(w.peak/1e6, "rss-peak-MB")
				b.ReportMetric(w.first.Seconds()*1e3, "cpu-ms-first-look")
				b.ReportMetric(w.idle*100, "%core-idle")
			}
		})
	}
}

// weight is what one running midhop takes.
type weight struct {
	anon, maps, resident, peak float64       // bytes
	first                      time.Duration // processor time from the start until all sockets were known
	idle                       float64       // cores, once they are
}

// idleSpan is how long the cost of healthy sockets is measured: several looks at the default budget.
const idleSpan = 30 * time.Second

// weigh runs midhop until it knows every socket and then for a while.
func weigh(b *testing.B) weight {
	b.Helper()
	cmd := exec.Command(binary, "watch", "-o", "jsonl", "--complete")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	synced := make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(out, 1<<20)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				synced <- err
				return
			}
			if bytes.Contains(line, []byte(`"stream.synced"`)) && bytes.Contains(line, []byte(`"sockets"`)) {
				synced <- nil
				break
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	if err := <-synced; err != nil {
		b.Fatal("no first look: ", err)
	}
	var w weight
	w.first = cpuOf(b, pid)
	<-time.After(5 * time.Second) // what the first look left to be done is no healthy minute's
	w.rest(b, pid, idleSpan)
	return w
}

// rest measures what a process takes while nothing happens, over so long, and what memory it has then.
func (w *weight) rest(b *testing.B, pid int, span time.Duration) {
	b.Helper()
	before, began := cpuOf(b, pid), time.Now()
	<-time.After(span)
	w.idle = (cpuOf(b, pid) - before).Seconds() / time.Since(began).Seconds()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	w.anon, w.resident, w.peak = kilobytes(status, "RssAnon:"), kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	w.maps = mapBytes(pid)
}

// cpuOf is the processor time of a process so far, by its threads' own clocks.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	id := int32(^pid)<<3 | 2 // the clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// kilobytes reads a field of /proc/PID/status, in bytes.
func kilobytes(status []byte, name string) float64 {
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n * 1024
		}
	}
	return 0
}

// mapBytes is the memory of the BPF maps that a process holds, as the kernel accounts it (fdinfo).
func mapBytes(pid int) float64 {
	sum := 0.0
	seen := make(map[string]bool)
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		id, size := "", 0.0
		for line := range strings.Lines(string(text)) {
			switch name, value, _ := strings.Cut(line, ":"); name {
			case "map_id":
				id = strings.TrimSpace(value)
			case "memlock":
				size, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
			}
		}
		if id != "" && !seen[id] {
			seen[id] = true
			sum += size
		}
	}
	return sum
}

// pairsVariable holds how many connections the process is to hold that TestHoldPairs is.
const pairsVariable = "MIDHOP_TEST_PAIRS"

// holdPairs starts a process with so many connections in a network namespace of its own: pods that were dialled through a
// hundred nodes, both ends of each.
func holdPairs(b testing.TB, n int) {
	b.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestHoldPairs$", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), partVariable+"=pairs", pairsVariable+"="+strconv.Itoa(n))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		b.Fatalf("the process that holds connections: %v, %q", err, line)
	}
}

// TestHoldPairs is no test but that process; it runs until it is killed.
func TestHoldPairs(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv(pairsVariable))
	if n == 0 {
		return
	}
	const nodes, perPod = 100, 2000
	var batch strings.Builder
	fmt.Fprintln(&batch, "link set lo up")
	for i := range nodes {
		fmt.Fprintf(&batch, "addr add 10.146.0.%d/32 dev lo\n", i+1)
	}
	pods := (n + perPod - 1) / perPod
	for i := range pods {
		fmt.Fprintf(&batch, "addr add 10.48.%d.5/32 dev lo\n", i)
	}
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(batch.String())
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left := n
	for pod := range pods {
		at := unix.SockaddrInet4{Addr: [4]byte{10, 48, byte(pod), 5}, Port: 8080}
		ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.Bind(ln, &at), unix.Listen(ln, 64)); err != nil {
			t.Fatal(err)
		}
		for i := range min(left, perPod) {
			if err := dialPair(ln, &at, netip.AddrFrom4([4]byte{10, 146, 0, byte(1 + i%nodes)})); err != nil {
				t.Fatal(err)
			}
		}
		left -= min(left, perPod)
	}
	os.Stdout.WriteString("ready\n")
	_ = unix.Pause()
}

// dialPair opens one connection and keeps both its ends open for as long as the process lives.
func dialPair(ln int, to *unix.SockaddrInet4, from netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	far, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(far, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(far, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 600),
		unix.SetsockoptInt(far, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15))
}

// BenchmarkStartup is the time from the start of the program to its first line and to its first look, and beside it from
// the start of bpftrace to its first.
func BenchmarkStartup(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	const runs = 7
	for b.Loop() {
		var first, look, cpu, theirs, theirCPU []time.Duration
		for range runs {
			cmd := exec.Command(binary, "watch", "-o", "jsonl", "--complete")
			at := firstLines(b, cmd, "{", `"stream.synced"`)
			first, look = append(first, at[0]), append(look, at[1])
			cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		b.ReportMetric(least(first).Seconds()*1e3, "ms-first-least")
		b.ReportMetric(median(first).Seconds()*1e3, "ms-first")
		b.ReportMetric(median(look).Seconds()*1e3, "ms-look")
		b.ReportMetric(median(cpu).Seconds()*1e3, "cpu-ms")
		if _, err := exec.LookPath("bpftrace"); err != nil {
			continue
		}
		for range runs {
			cmd := exec.Command("unshare", "-m", "sh", "-c", `mount -t tracefs tracefs /sys/kernel/tracing; exec bpftrace -e "$0"`, `BEGIN { printf("begun\n"); } `+oneLiner)
			theirs = append(theirs, firstLines(b, cmd, "begun")[0])
			theirCPU = append(theirCPU, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		b.ReportMetric(least(theirs).Seconds()*1e3, "ms-first-least-bpftrace")
		b.ReportMetric(median(theirs).Seconds()*1e3, "ms-first-bpftrace")
		b.ReportMetric(median(theirCPU).Seconds()*1e3, "cpu-ms-bpftrace")
	}
}

// firstLines runs a program until lines with these signs have come, in this order, and returns when each did.
func firstLines(b *testing.B, cmd *exec.Cmd, signs ...string) []time.Duration {
	b.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var at []time.Duration
	for in := bufio.NewScanner(out); len(at) < len(signs) && in.Scan(); {
		for len(at) < len(signs) && strings.Contains(in.Text(), signs[len(at)]) {
			at = append(at, time.Since(began))
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_ = cmd.Wait()
	if len(at) < len(signs) {
		b.Fatalf("%s said nothing of %q", cmd.Path, signs[len(at)])
	}
	return at
}
