package bpf

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Under overload what the probes wanted to say is what was read plus what was dropped, to the record: a reader that is too
// slow for a small ring loses much and hides nothing.
func TestAccounts(t *testing.T) {
	probes, _ := mustLoad(t, Options{NoNAT: true, EvidenceBytes: uint32(4 * os.Getpagesize())})
	defer probes.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	test := selfTest{probes: probes, told: map[Kind]bool{}, ports: map[uint16]bool{}}
	var read uint64
	var resetPeers []uint16
	ended := make(chan error, 1)
	go func() {
		ended <- probes.Evidence().Run(ctx, func(raw []byte) {
			read++
			var r TCPRecord
			if Decode(raw, &r) == nil && r.Header.Kind == KindResetReceived && r.Sock.PeerAddr().Addr().IsLoopback() {
				resetPeers = append(resetPeers, r.Sock.PeerPort)
			}
			time.Sleep(2 * time.Millisecond) // the reader that is too slow is what this is about
		}, func() {})
	}()
	const resets = 2000
	for range resets {
		test.resetOne(t)
	}
	for _, l := range probes.links { // nothing more is said; the iterators have said nothing
		l.Close()
	}
	probes.links = nil
	deadline := time.Now().Add(30 * time.Second)
	for {
		sent, dropped, err := probes.Counts(probes.Evidence())
		if err != nil {
			t.Fatal(err)
		}
		if unread(probes.Evidence()) == 0 || time.Now().After(deadline) {
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			var own uint64
			for _, port := range resetPeers {
				if test.ports[port] {
					own++
				}
			}
			t.Logf("%d records sent, %d read, %d dropped; %d of %d own resets read", sent, read, dropped, own, resets)
			if read != sent {
				t.Errorf("read %d of %d that were sent", read, sent)
			}
			if dropped == 0 || own+dropped < resets {
				t.Errorf("%d own resets read and %d records dropped of %d resets", own, dropped, resets)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// resetOne makes a connection on the loopback device, and resets it.
func (s *selfTest) resetOne(t *testing.T) {
	t.Helper()
	near, far, err := s.pair(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := near.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	near.Close()
	far.Close()
}

// unread is how many bytes of a ring wait for its reader.
func unread(r *Ring) int { return r.reader.AvailableBytes() }

// An agent that is killed leaves no program, map or link behind, and no pin.
func TestKilledLeavesNothing(t *testing.T) {
	probes, _ := mustLoad(t, Options{})
	probes.Close()
	pins := names(t, "/sys/fs/bpf")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=hold")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it holds everything now
		t.Fatal(err)
	}
	ids := idsOf(t, cmd.Process.Pid)
	if len(ids["prog"]) < 5 || len(ids["map"]) < 4 || len(ids["link"]) < 4 {
		t.Errorf("the child holds %v", ids)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone := map[string]func(uint32) bool{
		"prog": func(id uint32) bool { p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id)); return closed(p, err) },
		"map":  func(id uint32) bool { m, err := ebpf.NewMapFromID(ebpf.MapID(id)); return closed(m, err) },
	}
	deadline := time.Now().Add(30 * time.Second) // the kernel frees them after a grace period
	for kind, is := range gone {
		for _, id := range ids[kind] {
			for !is(id) {
				if time.Now().After(deadline) {
					t.Fatalf("%s %d is still there", kind, id)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	for _, id := range ids["link"] {
		if l, err := link.NewFromID(link.ID(id)); !closed(l, err) {
			t.Errorf("link %d is still there", id)
		}
	}
	if now := names(t, "/sys/fs/bpf"); len(now) > len(pins) {
		t.Errorf("pins %v, before it were %v", now, pins)
	}
}

// closed says whether an object was not there.
func closed[T interface{ Close() error }](o T, err error) bool {
	if err == nil {
		o.Close()
		return false
	}
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOENT)
}

var idLine = regexp.MustCompile(`(?m)^(prog|map|link)_id:\s*(\d+)$`)

// idsOf reads the kernel's ids of the BPF objects that a process holds.
func idsOf(t *testing.T, pid int) map[string][]uint32 {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fdinfo"
	ids := make(map[string][]uint32)
	for _, fd := range names(t, dir) {
		b, err := os.ReadFile(dir + "/" + fd)
		if err != nil {
			continue
		}
		for _, m := range idLine.FindAllStringSubmatch(string(b), -1) {
			id, _ := strconv.ParseUint(m[2], 10, 32)
			ids[m[1]] = append(ids[m[1]], uint32(id))
		}
	}
	return ids
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
