package bpf

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// threadTime is the processor time of the calling thread: the figure on a machine that others use too.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// BenchmarkStart is what loading, attaching and proving the probes costs: the floor of the time to the first event.
func BenchmarkStart(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	var load, test, cpu time.Duration
	for b.Loop() {
		began, before := time.Now(), processTime(b)
		probes, report, err := Load(Options{})
		if err != nil {
			b.Fatal(err)
		}
		loaded := time.Now()
		probes.SelfTest(b.Context(), QuickSelfTest, report)
		cpu += processTime(b) - before
		load, test = load+loaded.Sub(began), test+time.Since(loaded)
		b.StopTimer()
		if err := probes.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(load.Seconds()*1e3/float64(b.N), "ms-load")
	b.ReportMetric(test.Seconds()*1e3/float64(b.N), "ms-selftest")
	b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms")
}

// processTime is the processor time of this process so far.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRetransmit is what the kernel spends on a retransmission that is told, by its own clock, which adds some 50 ns. Deaf
// sockets make the kernel send again and again, sparsely, as a dead node does.
func BenchmarkRetransmit(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	probes, _, err := Load(Options{NoNAT: true})
	if err != nil {
		b.Fatal(err)
	}
	defer probes.Close()
	counting, err := CountRuns()
	if err != nil {
		b.Fatal(err)
	}
	defer counting.Close()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- probes.Evidence().Run(ctx, func([]byte) {}, func() {}) }()
	test := selfTest{probes: probes, told: map[Kind]bool{}, ports: map[uint16]bool{}}
	var prog *ebpf.Program
	for _, p := range probes.progs {
		if info, err := p.Info(); err == nil && strings.HasPrefix("tcp_retransmit_skb", info.Name) {
			prog = p
		}
	}
	if prog == nil {
		b.Fatal("no program of that name")
	}
	const sockets = 500
	var open []*net.TCPConn
	for range sockets {
		near, far, err := test.pair(b.Context(), 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := control(far, deafen); err != nil {
			b.Fatal(err)
		}
		open = append(open, near, far)
	}
	before, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	sentBefore, _, _ := probes.Counts(probes.Evidence())
	for i := 0; i < len(open); i += 2 {
		if _, err := open[i].Write([]byte{0}); err != nil {
			b.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // three of each
		sent, _, err := probes.Counts(probes.Evidence())
		if err != nil || time.Now().After(deadline) {
			b.Fatalf("%d records: %v", sent, err)
		}
		if sent-sentBefore >= 3*sockets {
			break
		}
	}
	after, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range open {
		_ = c.SetLinger(0)
		c.Close()
	}
	cancel()
	<-ended
	runs := after.RunCount - before.RunCount
	b.ReportMetric(float64((after.Runtime-before.Runtime).Nanoseconds())/float64(runs), "ns/retransmission")
	b.ReportMetric(float64(runs), "retransmissions")
}

// BenchmarkCensus is one look at 50,000 sockets of three network namespaces with their owners, beside what ss takes for the
// same in processor time.
func BenchmarkCensus(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	probes, _, err := Load(Options{NoNAT: true})
	if err != nil {
		b.Fatal(err)
	}
	defer probes.Close()
	const spaces, each = 3, 16_800
	var pids []int
	for range spaces {
		pids = append(pids, holdSockets(b, each))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var cpu, least time.Duration
	rows := 0
	for b.Loop() {
		rows = 0
		before := threadTime()
		if err := probes.Census(b.Context(), func(r *SocketRow) {
			if r.PID != 0 {
				rows++
			}
		}, func(*NetnsRow) {}); err != nil {
			b.Fatal(err)
		}
		took := threadTime() - before
		cpu += took
		if least == 0 || took < least {
			least = took
		}
	}
	if rows < spaces*each {
		b.Fatalf("%d rows with an owner, want %d", rows, spaces*each)
	}
	b.ReportMetric(float64(rows), "sockets")
	b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/look")
	b.ReportMetric(least.Seconds()*1e3, "cpu-ms-least")
	if _, err := exec.LookPath("ss"); err != nil {
		return
	}
	for _, peer := range []struct{ flags, unit string }{{"-tinH", "cpu-ms-ss"}, {"-tinpH", "cpu-ms-ss-owners"}} {
		var beside time.Duration
		for _, pid := range pids { // ss knows one namespace at a time
			cmd := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", "ss", peer.flags)
			if err := cmd.Run(); err != nil {
				b.Fatalf("ss: %v", err)
			}
			beside += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
		b.ReportMetric(beside.Seconds()*1e3, peer.unit)
	}
}

// holdSockets starts a process that holds connected sockets in a network namespace of its own.
func holdSockets(b *testing.B, n int) (pid int) {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+fmt.Sprint(n))
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
	if _, err := out.Read(make([]byte, 1)); err != nil {
		b.Fatalf("the process that holds sockets: %v", err)
	}
	return cmd.Process.Pid
}

// holdAsChild is the other end of holdSockets.
func holdAsChild(n int) int {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s", err, out)
		return 1
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var keep []net.Conn
	for len(keep) < n {
		d := net.Dialer{KeepAlive: -1}
		c, err := d.Dial("tcp4", ln.Addr().String())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		a, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		keep = append(keep, c, a)
	}
	os.Stdout.WriteString("x")
	_ = unix.Pause()
	runtime.KeepAlive(keep)
	return 0
}
