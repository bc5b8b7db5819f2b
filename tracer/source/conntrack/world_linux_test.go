package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ctnetlink "github.com/ti-mo/conntrack"
)

const childEnv = "MIDHOP_TEST_NETNS_CHILD"

// inNetns runs the calling test again in a process of its own with an empty network namespace, and returns true there.
func inNetns(t *testing.T, cloneflags uintptr) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=4m")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in its namespace: %v\n%s", err, out)
	}
	t.Logf("in its namespace:\n%s", out)
	return false
}

func command(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// family is one address family of the test's world: what a client dials is translated on the loopback device to the
// server, and the client's address to the node's, as a node does for a NodePort.
type family struct {
	nft, any               string
	client, vip, pod, node netip.Addr
}

var (
	ipv4 = family{"ip", "0.0.0.0/0", netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	ipv6 = family{"ip6", "::/0", netip.MustParseAddr("fd00::9"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3")}
)

const (
	nodePort = 30080
	podPort  = 8080
)

// world is a namespace with a server behind NAT.
type world struct {
	family
	server net.Listener

	mu       sync.Mutex
	accepted []net.Conn
	arrived  chan struct{}
	clients  []net.Conn
}

func newWorld(t *testing.T, f family) *world {
	t.Helper()
	command(t, "", "ip", "link", "set", "lo", "up")
	if f.pod.Is6() {
		for _, a := range []netip.Addr{f.client, f.vip, f.pod, f.node} {
			command(t, "", "ip", "-6", "addr", "add", a.String()+"/128", "dev", "lo", "nodad")
		}
	}
	command(t, fmt.Sprintf(`table %[1]s nat {
		chain output { type nat hook output priority -100; %[1]s daddr %[2]s tcp dport %[3]d dnat to %[4]s
			%[1]s daddr %[2]s udp dport %[3]d dnat to %[5]s:%[6]d
		}
		chain postrouting { type nat hook postrouting priority 100; ct status dnat meta l4proto tcp snat to %[7]s fully-random
		}
	}`, f.nft, f.vip, nodePort, netip.AddrPortFrom(f.pod, podPort), bracket(f.pod), podPort, f.node), "nft", "-f", "-")
	w := &world{family: f, arrived: make(chan struct{}, 10000)}
	var err error
	if w.server, err = net.Listen("tcp", netip.AddrPortFrom(f.pod, podPort).String()); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := w.server.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.accepted = append(w.accepted, c)
			w.mu.Unlock()
			w.arrived <- struct{}{}
		}
	}()
	return w
}

func bracket(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// connect makes n translated connections and waits until the server has them.
func (w *world) connect(t *testing.T, n int) {
	t.Helper()
	dialer := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: w.client.AsSlice()}}
	for range n {
		c, err := dialer.Dial("tcp", netip.AddrPortFrom(w.vip, nodePort).String())
		if err != nil {
			t.Fatal(err)
		}
		w.clients = append(w.clients, c)
	}
	for range n {
		<-w.arrived
	}
}

// closeAll closes from the server's side, and the clients after it.
func (w *world) closeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.accepted {
		c.Close()
	}
	for _, c := range w.clients {
		c.Close()
	}
	w.accepted, w.clients = nil, nil
}

// flush empties the table, as `conntrack -F` does.
func flush(t *testing.T) {
	t.Helper()
	c, err := ctnetlink.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/netfilter/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}
