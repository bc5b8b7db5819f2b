//go:build faults

package main

import (
	"bytes"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests break midhop itself, or what it stands on. They take minutes and much memory, so `make test-faults` runs them.

// TestKilledInTheMiddle: midhop is killed while an incident is open, and started again. What it knew is in the kernel: it
// names the same node again within 3 s of its start.
func TestKilledInTheMiddle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the lab makes network namespaces: needs root")
	}
	nodes, target := standingIncident(t, "90531")
	for i := range 3 {
		w := startWatch(t, nil, "--nodes", nodes, "--node", "somewhere-else")
		w.await(t, "the verdict", 20*time.Second, func() bool { return len(w.opened) > 0 })
		if got := w.opened[0].Culprit.Name; got != target {
			t.Errorf("start %d: %s is named, want %s", i+1, got, target)
		}
		if w.first > 3*time.Second {
			t.Errorf("start %d: the verdict took %s", i+1, w.first)
		}
		t.Logf("start %d: named after %s", i+1, w.first)
		_ = w.cmd.Process.Kill()
		<-w.ended
		_ = w.cmd.Wait()
	}
}

// standingIncident lets the lab's node-gone happen and leaves it standing; it returns a nodes file and the dead node.
func standingIncident(t *testing.T, seed string) (nodes, target string) {
	t.Helper()
	lab := exec.Command(binary, "lab", "node-gone", "--seed", seed, "--connections", "100", "--duration", "6s", "--keep", "-o", "jsonl")
	stdout, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Process.Signal(unix.SIGINT); _ = lab.Wait() })
	lines, nodes, target := untilNamed(t, stdout, 0)
	go func() { // the lab goes on writing
		for lines.Scan() {
		}
	}()
	return nodes, target
}

// TestMemoryLimit: with 100,000 sockets and a group that may take far less than midhop takes unhindered, it is not ended by
// the kernel, and knows every socket.
func TestMemoryLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const limit, sockets = 64 << 20, 160_000
	group, files := "/sys/fs/cgroup/memory/midhop-test-limit", [2]string{"memory.limit_in_bytes", "memory.failcnt"}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		group, files = "/sys/fs/cgroup/midhop-test-limit", [2]string{"memory.max", "memory.events"}
	}
	if err := os.Mkdir(group, 0o755); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	if err := os.WriteFile(filepath.Join(group, files[0]), []byte(strconv.Itoa(limit)), 0o644); err != nil {
		t.Fatal(err)
	}
	for left := sockets; left > 0; left -= 16_000 {
		holdPairs(t, min(left, 16_000)/2)
	}
	w := startWatch(t, []string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group})
	w.await(t, "the first look", time.Minute, w.synced)
	settle := time.After(5 * time.Second)
	select {
	case <-w.ended:
		t.Fatalf("midhop ended: %s", &w.stderr)
	case <-settle:
	}
	_, _, anon := w.takes(t)
	count, _ := os.ReadFile(filepath.Join(group, files[1]))
	t.Logf("%.0f MB of anonymous memory, limit %d MB; the limit was met: %s", anon/1e6, limit>>20, bytes.TrimSpace(count))
	if anon > limit*limitShare*1.1 {
		t.Errorf("%.0f MB of anonymous memory", anon/1e6)
	}
}

// TestManyNamespaces: pods come and go by the thousand, each with a network namespace and a connection of its own. Nothing
// of them is kept, nobody is blamed.
func TestManyNamespaces(t *testing.T) {
	holdPairs(t, 1) // so that every look has something to tell
	w := startWatch(t, nil)
	w.await(t, "the first look", time.Minute, w.synced)
	churn := func(n int) {
		const together = 50
		var living []chan struct{} // in the order of their birth
		end := func(left int) {
			for ; len(living) > left; living = living[1:] {
				close(living[0])
			}
		}
		defer end(0)
		for range n {
			born, die := make(chan error, 1), make(chan struct{})
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends, and its namespace with it
				shortLife(born, die)
			}()
			if err := <-born; err != nil {
				t.Fatal(err)
			}
			living = append(living, die)
			end(together)
		}
	}
	churn(200)
	files, threads, anon := w.takes(t)
	churn(2000)
	w.looksAgain(t)
	w.forgets(t, 200)
	files2, threads2, anon2 := w.takes(t)
	t.Logf("files %d then %d, threads %d then %d, anonymous MB %.1f then %.1f", files, files2, threads, threads2, anon/1e6, anon2/1e6)
	if files2 > files+4 || threads2 > threads+8 || anon2 > anon+24e6 {
		t.Errorf("something of 2,000 namespaces is kept")
	}
	w.blamesNobody(t)
}

// shortLife is one pod: a namespace and a connection, and the end when it is time. Whether it came to life is sent to born.
func shortLife(born chan<- error, die <-chan struct{}) {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	socket := func(kind int) (int, error) {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, fd)
		}
		return fd, err
	}
	live := func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := socket(unix.SOCK_DGRAM)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
			return err
		}
		ln, err := socket(unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		at := unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: faultsPort}
		if err := errors.Join(unix.Bind(ln, &at), unix.Listen(ln, 8)); err != nil {
			return err
		}
		c, err := socket(unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		if err := unix.Connect(c, &at); err != nil {
			return err
		}
		a, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
		if err == nil {
			fds = append(fds, a)
		}
		return err
	}
	err := live()
	if born <- err; err == nil {
		<-die
	}
}

// TestSYNFlood: 200,000 SYNs reach a listener, and then 400,000 more, none from where another came. They are no connections:
// what the first took for a while the others take no more than again, and nobody is named.
func TestSYNFlood(t *testing.T) {
	holdPairs(t, 1) // so that every look has something to tell
	w := startWatch(t, nil)
	w.await(t, "the first look", time.Minute, w.synced)
	_, _, calm := w.takes(t)
	const syns = 200_000
	floods := 0
	next := func() float64 {
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends, and its namespaces with it
			done <- flood(floods*syns, syns)
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		floods++
		w.looksAgain(t)
		_, _, anon := w.takes(t)
		return anon
	}
	first := next()
	next()
	last := next()
	t.Logf("anonymous MB %.1f, after %d SYNs %.1f, after %d %.1f", calm/1e6, syns, first/1e6, 3*syns, last/1e6)
	if first > calm+24e6 || last > first+8e6 {
		t.Error("the flood is kept in memory")
	}
	w.blamesNobody(t)
}

// flood sends SYNs of made-up addresses, from the one with a number on, to a listener of its own network namespace.
func flood(from, n int) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if out, err := exec.Command("sh", "-ec", "ip link set lo up; ip addr add 10.79.0.1/32 dev lo; ip route add local 10.79.0.0/16 dev lo").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ln)
	if err := errors.Join(unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{10, 79, 0, 1}, Port: 8080}), unix.Listen(ln, 4096)); err != nil {
		return err
	}
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(raw)
	p := make([]byte, 40)
	for i := from; i < from+n; i++ {
		copy(p, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0, 10, 79, byte(1 + i>>8%250), byte(i), 10, 79, 0, 1})
		tcp := p[20:]
		clear(tcp)
		wire.BigEndian.PutUint16(tcp, uint16(1024+i%60000))
		wire.BigEndian.PutUint16(tcp[2:], 8080)
		wire.BigEndian.PutUint32(tcp[4:], uint32(i)*2654435761)
		tcp[12], tcp[13] = 5<<4, 2 // SYN
		wire.BigEndian.PutUint16(tcp[14:], 64000)
		wire.BigEndian.PutUint16(tcp[16:], sum(p[12:20], tcp))
		if err := unix.Sendto(raw, p, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 79, 0, 1}}); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// sum is TCP's checksum over addresses and header.
func sum(addresses, tcp []byte) uint16 {
	s := uint32(unix.IPPROTO_TCP) + uint32(len(tcp))
	for _, b := range [][]byte{addresses, tcp} {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(wire.BigEndian.Uint16(b[i:]))
		}
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// soakVariable is how long TestLeaks lets connections come and go; MIDHOP_SOAK=30m for a long night.
const soakVariable = "MIDHOP_SOAK"

// TestLeaks: connections come and go for a while, and what midhop takes at the end is what it took when it had settled:
// descriptors, threads, memory. The end of each that it met is told.
func TestLeaks(t *testing.T) {
	span := 45 * time.Second
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		if span, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	w := startWatch(t, nil)
	w.await(t, "the first look", time.Minute, w.synced)
	ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", faultsPort))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	var files, threads int
	var anon float64
	var living []net.Conn // for a while, so that looks meet them
	end := func(left int) {
		for ; len(living) > left; living = living[1:] {
			living[0].Close()
		}
	}
	defer func() { end(0) }()
	began, settled := time.Now(), false
	for n := 0; time.Since(began) < span; n++ {
		c, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
		}
		living = append(living, c)
		end(200)
		<-time.After(2 * time.Millisecond)
		if !settled && time.Since(began) > span/3 {
			settled = true
			files, threads, anon = w.takes(t)
		}
	}
	end(0)
	ln.Close()
	w.forgets(t, 1000)
	files2, threads2, anon2 := w.takes(t)
	t.Logf("after %s and after %s: files %d, %d; threads %d, %d; anonymous MB %.1f, %.1f", span/3, span, files, files2, threads, threads2, anon/1e6, anon2/1e6)
	if files2 > files+4 || threads2 > threads+6 || anon2 > anon*1.3+8e6 {
		t.Error("something grows")
	}
	select {
	case <-w.ended:
		t.Errorf("midhop ended: %s", &w.stderr)
	default:
	}
}
