package bpf

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The part of these tests that runs in a process with fewer rights.
const childEnv = "MIDHOP_TEST_LOAD"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(childEnv)); err == nil && n > 1 {
		os.Exit(holdAsChild(n))
	}
	if os.Getenv(childEnv) != "" {
		os.Exit(loadAsChild())
	}
	os.Exit(m.Run())
}

// loadAsChild loads the probes, walks the census once, and says on stdout what came of it.
func loadAsChild() int {
	probes, report, err := Load(Options{})
	var rights *PrivilegeError
	if errors.As(err, &rights) {
		os.Stdout.WriteString("privilege: " + rights.Cause + "\n" + rights.Effect + "\n" + rights.Remedy)
		return 3
	}
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	defer probes.Close()
	if os.Getenv(childEnv) == "hold" { // until it is killed
		os.Stdout.WriteString("x")
		_ = unix.Pause()
	}
	for _, f := range []Fact{FactRetransmit, FactError, FactReset, FactState, FactSockets} {
		if r := report.Fact(f); r.Rung == "" {
			os.Stdout.WriteString(string(f) + ": " + r.Why() + "\n")
			return 1
		}
	}
	nat := report.Fact(FactNAT)
	os.Stdout.WriteString("nat: " + nat.Rung + " " + nat.Why() + "\n")
	spaces := 0
	if err := probes.Census(context.Background(), func(*SocketRow) {}, func(*NetnsRow) { spaces++ }); err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	if spaces == 0 {
		os.Stdout.WriteString("the census met no namespace, not even its own")
		return 1
	}
	return 0
}

// runChild runs this binary as nobody with the given capabilities and no others.
func runChild(t *testing.T, keep ...uintptr) (int, string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self} // the binary may lie where nobody may look
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: keep}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// mustLoad loads the probes, and skips where this kernel has a rung of nothing, and there only.
func mustLoad(t *testing.T, o Options) (*Probes, Report) {
	t.Helper()
	needRoot(t)
	probes, report, err := Load(o)
	var kernel *KernelError
	if errors.As(err, &kernel) {
		t.Skipf("no probe serves on this kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return probes, report
}

// Everything that an agent needs loads as nobody with three capabilities.
func TestLoadWithThreeCapabilities(t *testing.T) {
	probes, _ := mustLoad(t, Options{NoNAT: true})
	probes.Close()
	code, out := runChild(t, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN)
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	t.Log(out) // the NAT programs may need more: that is the ledger's business
}

// Without them the error says what is missing and what to do.
func TestLoadWithoutRights(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		keep []uintptr
		want string
	}{
		{nil, "CAP_BPF and CAP_PERFMON"},
		{[]uintptr{unix.CAP_BPF}, "CAP_PERFMON"},
		{[]uintptr{unix.CAP_PERFMON, unix.CAP_NET_ADMIN}, "CAP_BPF"},
	} {
		code, out := runChild(t, c.keep...)
		if code != 3 || !strings.Contains(out, "this process has no "+c.want+"\n") || !strings.Contains(out, "sudo") {
			t.Errorf("with %v: exit %d: %s", c.keep, code, out)
		}
	}
}

// Every fact has a rung or a reason, and closing leaves nothing.
func TestLoadAndClose(t *testing.T) {
	best := time.Hour
	for range 3 {
		before := openFiles(t)
		started := time.Now()
		probes, report := mustLoad(t, Options{})
		best = min(best, time.Since(started))
		if len(report) != 9 {
			t.Errorf("report of %d facts, want 9", len(report))
		}
		for _, r := range report {
			if r.Rung == "" && len(r.Tried) == 0 {
				t.Errorf("fact %s has no rung and no reason", r.Fact)
			}
			if strings.Contains(r.Why(), "\n") {
				t.Errorf("why of %s has several lines: %q", r.Fact, r.Why())
			}
		}
		if err := probes.Close(); err != nil {
			t.Error(err)
		}
		if after := openFiles(t); after > before {
			t.Errorf("%d files are open, before it were %d", after, before)
		}
	}
	t.Logf("loaded in %v at best", best)
}

// openFiles counts this process's files that belong to BPF: programs, maps, links, iterators.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(target, "bpf") {
			n++
		}
	}
	return n
}

// Run ends when its context does, however quiet the ring is.
func TestRingEnds(t *testing.T) {
	probes, _ := mustLoad(t, Options{NoNAT: true})
	defer probes.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- probes.Evidence().Run(ctx, func([]byte) {}, func() {}) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("still running")
	}
}

func TestWallClock(t *testing.T) {
	var c WallClock
	now, err := c.Now()
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.Time(now)
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(at); off < 0 || off > 5*time.Second {
		t.Errorf("now is %v ago", off)
	}
	if at.Location() != time.UTC {
		t.Errorf("time is in %v", at.Location())
	}
	earlier, err := c.Time(now - uint64(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if d := at.Sub(earlier); (d - time.Hour).Abs() > time.Second {
		t.Errorf("an hour before is %v before", d)
	}
}

// What a thread read that had to wait in between is not believed where there is better, and else the best of it is.
func TestWallClockOnABusyMachine(t *testing.T) {
	const us, ms = 1000, 1000 * 1000
	for _, c := range []struct {
		took  []uint64 // by each pair in turn, the last of them again and again
		want  uint64
		pairs int
	}{
		{[]uint64{1 * us}, 1 * us, 1},
		{[]uint64{30 * ms, 40 * ms, 2 * us, 1 * us}, 2 * us, 3},
		{[]uint64{30 * ms, 5 * ms, 90 * ms}, 5 * ms, clockTries},
	} {
		pairs := 0
		p, err := closest(func() (clocksPair, error) {
			pairs++
			return clocksPair{before: 7, after: 7 + c.took[min(pairs, len(c.took))-1]}, nil
		})
		if err != nil || p.after-p.before != c.want || pairs != c.pairs {
			t.Errorf("of %v: one that took %d ns after %d pairs, want %d ns after %d (%v)", c.took, p.after-p.before, pairs, c.want, c.pairs, err)
		}
	}
}
