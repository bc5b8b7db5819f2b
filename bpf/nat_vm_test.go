//go:build linux

package bpf

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// The main goroutine keeps the main thread: one that takes the thread it runs on into a namespace would take the process there,
// for all that /proc says, and would leave that thread behind when it ends.
func init() { runtime.LockOSThread() }

// How long the records of something that the test did may take to arrive: a deadline, much longer than it should be.
const natPatience = 40 * time.Second

// natSpace is a network namespace with a thread that works in it.
type natSpace struct {
	work chan func()
	path string
	inum uint32
}

func newNATSpace(t *testing.T) *natSpace {
	t.Helper()
	s := &natSpace{work: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that no other goroutine meets the namespace
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer home.Close()
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			s.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			var st unix.Stat_t
			err = unix.Stat(s.path, &st)
			s.inum = uint32(st.Ino)
		}
		ready <- err
		for f := range s.work {
			f()
		}
		if err == nil {
			// The runtime lets a thread end with its goroutine, but never the main thread, which this may be.
			_ = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(s.end)
	return s
}

// end lets go of the namespace; the kernel takes it down when nothing else holds it.
func (s *natSpace) end() {
	if s.work != nil {
		close(s.work)
		s.work = nil
	}
}

// do runs f on the namespace's thread and fails the test with its error.
func (s *natSpace) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	s.work <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// run runs programs in the namespace, one per line.
func (s *natSpace) run(t *testing.T, stdin, lines string) {
	t.Helper()
	s.do(t, func() error {
		for line := range strings.Lines(lines) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Stdin = strings.NewReader(stdin)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.TrimSpace(line), err, out)
			}
		}
		return nil
	})
}

// try runs one program in the namespace.
func (s *natSpace) try(words ...string) error {
	done := make(chan error)
	s.work <- func() {
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
		}
		done <- err
	}
	return <-done
}

func (s *natSpace) sysctl(t *testing.T, name, value string) {
	t.Helper()
	s.do(t, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644) })
}

// natFamily is one address family of the test's road.
type natFamily struct {
	nft                          string
	bits                         int
	client, nodeOut, nodeIn, pod netip.Addr
}

var natFamilies = map[string]natFamily{
	"IPv4": {"ip", 24, netip.MustParseAddr("10.81.0.2"), netip.MustParseAddr("10.81.0.1"), netip.MustParseAddr("10.82.0.1"),
		netip.MustParseAddr("10.82.0.2")},
	"IPv6": {"ip6", 64, netip.MustParseAddr("fd81::2"), netip.MustParseAddr("fd81::1"), netip.MustParseAddr("fd82::1"),
		netip.MustParseAddr("fd82::2")},
}

const (
	natNodePort = 30080
	natPodPort  = 8080
)

// natRoad is a client, a node that translates, and a pod behind it: what kube-proxy makes of a NodePort.
type natRoad struct {
	natFamily
	clientAt, nodeAt, podAt *natSpace
	server                  net.Listener
	open                    []*net.TCPConn // both ends of all connections
}

func newNATRoad(t *testing.T, f natFamily) *natRoad {
	t.Helper()
	r := &natRoad{natFamily: f, clientAt: newNATSpace(t), nodeAt: newNATSpace(t), podAt: newNATSpace(t)}
	address := func(a netip.Addr, link string) string {
		flags := ""
		if a.Is6() {
			flags = " nodad"
		}
		return fmt.Sprintf("ip addr add %s/%d dev %s%s\nip link set %s up\n", a, f.bits, link, flags, link)
	}
	r.nodeAt.run(t, "", fmt.Sprintf("ip link add out type veth peer name road netns %s\nip link add in type veth peer name road netns %s\n",
		r.clientAt.path, r.podAt.path)+address(f.nodeOut, "out")+address(f.nodeIn, "in"))
	r.clientAt.run(t, "", address(f.client, "road")+"ip route add default via "+f.nodeOut.String())
	r.podAt.run(t, "", address(f.pod, "road")+"ip route add default via "+f.nodeIn.String())
	r.nodeAt.sysctl(t, "ipv4/ip_forward", "1")
	r.nodeAt.sysctl(t, "ipv6/conf/all/forwarding", "1")
	r.nodeAt.run(t, fmt.Sprintf(`table %[1]s nat {
		chain pre { type nat hook prerouting priority -100; tcp dport %[2]d dnat to %[3]s; }
		chain post { type nat hook postrouting priority 100; ct status dnat masquerade fully-random; }
	}`, f.nft, natNodePort, netip.AddrPortFrom(f.pod, natPodPort)), "nft -f -")
	r.podAt.do(t, func() (err error) {
		// No keepalives at either end: after a flush each would make its connection a new entry.
		lc := net.ListenConfig{KeepAlive: -1}
		r.server, err = lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(f.pod, natPodPort).String())
		return err
	})
	t.Cleanup(func() { r.server.Close() })
	t.Cleanup(r.abort)
	return r
}

// connect opens n connections to an address and returns both tuples of each, as its two ends know them.
func (r *natRoad) connect(t *testing.T, to netip.AddrPort, n int) []natPair {
	t.Helper()
	var pairs []natPair
	for range n {
		var c net.Conn
		r.clientAt.do(t, func() (err error) {
			d := net.Dialer{Timeout: natPatience, KeepAlive: -1}
			c, err = d.Dial("tcp", to.String())
			return err
		})
		r.open = append(r.open, c.(*net.TCPConn))
		s, err := r.server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r.open = append(r.open, s.(*net.TCPConn))
		pairs = append(pairs, natPair{
			netip.MustParseAddrPort(c.LocalAddr().String()), to,
			netip.MustParseAddrPort(s.LocalAddr().String()), netip.MustParseAddrPort(s.RemoteAddr().String()),
		})
	}
	return pairs
}

// abort ends all connections by resets, for which conntrack makes no entry. A new connection that happens on the port of
// an old one would otherwise be refused by the pod's kernel at first, and its entry replaced.
func (r *natRoad) abort() {
	for _, c := range r.open {
		_ = c.SetLinger(0)
		c.Close()
	}
	r.open = nil
}

// natPair is the original and the reply tuple of an entry, each from its sender to its receiver.
type natPair struct{ client, dialled, pod, seen netip.AddrPort }

func (p natPair) compare(q natPair) int {
	return cmp.Or(p.client.Compare(q.client), p.seen.Compare(q.seen))
}

// natWatch collects the records of the bulk ring.
type natWatch struct {
	status  uint32 // bits that every record has to have
	records chan NATRecord
	probes  *Probes
}

// watchNAT loads the probes for one namespace on one rung and reads what they tell.
func watchNAT(t *testing.T, netns uint32, rung string) *natWatch {
	t.Helper()
	probes, report, err := Load(Options{NATNetns: netns, Rungs: map[Fact]string{FactNAT: rung}})
	if err != nil {
		t.Fatal(err)
	}
	if f := report.Fact(FactNAT); f.Rung == "" {
		probes.Close()
		unavailable(t, f, rung)
	}
	w := &natWatch{status: StatusSourceNAT | StatusDestNAT, records: make(chan NATRecord, 10000), probes: probes}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- probes.Bulk().Run(ctx, func(raw []byte) {
			var r NATRecord
			if kind, err := KindOf(raw); err == nil && kind == KindResetSent {
				return // of the connections that the test aborts
			}
			if err := Decode(raw, &r); err != nil {
				t.Errorf("decode: %v", err)
				return
			}
			w.records <- r
		}, func() {})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := probes.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// want awaits exactly these entries, each once, with one kind of record.
func (w *natWatch) want(t *testing.T, kind Kind, pairs []natPair, check func(NATRecord) error) {
	t.Helper()
	deadline := time.After(natPatience)
	var got []natPair
	wrong := 0
	for range pairs {
		select {
		case r := <-w.records:
			if r.Header.Kind != kind {
				t.Fatalf("record of kind %d among those of kind %d: %+v", r.Header.Kind, kind, r)
			}
			if r.Status&w.status != w.status || r.Proto != unix.IPPROTO_TCP {
				t.Errorf("status %#x, protocol %d", r.Status, r.Proto)
			}
			if err := check(r); err != nil {
				if wrong++; wrong <= 3 {
					t.Error(err)
				}
			}
			got = append(got, natPair{r.Original.SrcAddr(), r.Original.DstAddr(), r.Reply.SrcAddr(), r.Reply.DstAddr()})
		case <-deadline:
			t.Fatalf("%d records of kind %d, want %d", len(got), kind, len(pairs))
		}
	}
	slices.SortFunc(got, natPair.compare)
	pairs = slices.SortedFunc(slices.Values(pairs), natPair.compare)
	if !slices.Equal(got, pairs) {
		for i := range pairs {
			if got[i] != pairs[i] {
				t.Errorf("kind %d:\n got %v\nwant %v", kind, got[i], pairs[i])
				break
			}
		}
	}
}

// TestNAT makes translated connections through a node and takes them away again in each way that there is, on every rung
// of this package: each is told once when it comes and once when it goes, with the cause.
func TestNAT(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading probes and making network namespaces needs root")
	}
	for _, rung := range []string{"fexit", "kprobe", "kprobe.multi"} {
		many := 1000
		if rung == "kprobe.multi" { // the same programs as kprobe
			many = 50
		}
		t.Run(rung, func(t *testing.T) {
			t.Run("IPv4", func(t *testing.T) { testNAT(t, natFamilies["IPv4"], rung, many) })
			t.Run("IPv6", func(t *testing.T) { testNAT(t, natFamilies["IPv6"], rung, 50) })
		})
	}
}

func testNAT(t *testing.T, family natFamily, rung string, n int) {
	road := newNATRoad(t, family)
	w := watchNAT(t, road.nodeAt.inum, rung)
	node := netip.AddrPortFrom(family.nodeOut, natNodePort)
	inNode := func(r NATRecord) error {
		if r.Netns != road.nodeAt.inum {
			return fmt.Errorf("namespace %d, want the node's, %d", r.Netns, road.nodeAt.inum)
		}
		return nil
	}
	began := func(r NATRecord) error {
		if r.NetnsGone != 0 || r.PortID != 0 {
			return fmt.Errorf("a new entry says %+v", r)
		}
		return inNode(r)
	}
	// Before 5.17 the hook comes after the one who asked has been forgotten.
	asked := rung == "fexit" || deletesEntries(kernelTypes(t)) == nil
	l3 := map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family.nft]

	at := time.Now()
	phase := func(name string) {
		t.Logf("%s: %s", name, time.Since(at).Round(time.Millisecond))
		at = time.Now()
	}
	connect := func() []natPair {
		pairs := road.connect(t, node, n)
		w.want(t, KindNATCreated, pairs, began)
		phase("created")
		return pairs
	}

	// A connection that is tracked and not translated is never told. The next record would be its.
	road.connect(t, netip.AddrPortFrom(family.pod, natPodPort), 1)
	pairs := connect()
	road.nodeAt.run(t, "", "conntrack -F -f "+l3)
	w.want(t, KindNATDestroyed, pairs, func(r NATRecord) error {
		if (r.PortID != 0) != asked || r.LeftMS <= 0 || r.NetnsGone != 0 {
			return fmt.Errorf("flushed by %d with %d ms left, namespace gone %d: want a netlink socket (%v) and time left",
				r.PortID, r.LeftMS, r.NetnsGone, asked)
		}
		return inNode(r)
	})
	phase("flushed")
	road.abort()

	// An entry whose time is over goes when somebody meets it: a listing does (ctnetlink_dump_table).
	pairs = connect()
	road.nodeAt.sysctl(t, "netfilter/nf_conntrack_tcp_timeout_established", "4")
	for i := 0; i < len(road.open); i += 2 { // a segment gives its entry the time of now
		if _, err := road.open[i].Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	stop, listing := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			err := road.nodeAt.try("conntrack", "-L", "-f", l3)
			select {
			case <-stop:
				listing <- err
				return
			default:
			}
		}
	}()
	w.want(t, KindNATDestroyed, pairs, func(r NATRecord) error {
		if r.PortID != 0 || r.LeftMS > 0 || r.NetnsGone != 0 {
			return fmt.Errorf("timed out by %d with %d ms left, namespace gone %d", r.PortID, r.LeftMS, r.NetnsGone)
		}
		return inNode(r)
	})
	close(stop)
	if err := <-listing; err != nil {
		t.Error(err)
	}
	phase("timed out")
	road.abort()
	road.nodeAt.sysctl(t, "netfilter/nf_conntrack_tcp_timeout_established", "432000")

	pairs = connect()
	road.nodeAt.end()
	w.want(t, KindNATDestroyed, pairs, func(r NATRecord) error {
		if r.LeftMS <= 0 || r.NetnsGone != 1 {
			return fmt.Errorf("%d ms left, namespace gone %d, of an entry whose namespace went", r.LeftMS, r.NetnsGone)
		}
		return inNode(r)
	})
	phase("namespace gone")

	if sent, dropped, err := w.probes.Counts(w.probes.Bulk()); err != nil || sent < 6*uint64(n) || dropped != 0 {
		t.Errorf("sent %d, dropped %d, %v: want %d at least, 0", sent, dropped, err, 6*n)
	}
}

// TestIPVS has IPVS choose the pod, as kube-proxy can: it enters conntrack where net.ipv4.vs.conntrack is on, and the node
// masquerades. The entry is told with both final tuples, though IPVS does not mark it as translated towards the pod.
func TestIPVS(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skip("this kernel has no IPVS")
	}
	rung := "fexit"
	if deletesEntries(nil) != nil {
		rung = "kprobe" // before 5.11 there are no types of modules
	}
	f := natFamilies["IPv4"]
	road := newNATRoad(t, f)
	node, pod := netip.AddrPortFrom(f.nodeOut, natNodePort), netip.AddrPortFrom(f.pod, natPodPort)
	road.nodeAt.run(t, "", "nft delete table ip nat")
	road.nodeAt.run(t, fmt.Sprintf(`table ip nat { chain post { type nat hook postrouting priority 100; ip daddr %s tcp dport %d masquerade fully-random; }; }`,
		f.pod, natPodPort), "nft -f -")
	road.nodeAt.sysctl(t, "ipv4/vs/conntrack", "1")
	road.nodeAt.run(t, "", fmt.Sprintf("ipvsadm -A -t %s -s rr\nipvsadm -a -t %s -r %s -m", node, node, pod))
	w := watchNAT(t, road.nodeAt.inum, rung)
	w.status = StatusSourceNAT
	pairs := road.connect(t, node, 50)
	inNode := func(r NATRecord) error {
		if r.Netns != road.nodeAt.inum {
			return fmt.Errorf("namespace %d, want the node's, %d", r.Netns, road.nodeAt.inum)
		}
		return nil
	}
	w.want(t, KindNATCreated, pairs, inNode)
	road.nodeAt.run(t, "", "conntrack -F -f ipv4")
	w.want(t, KindNATDestroyed, pairs, inNode)
}

func kernelTypes(t *testing.T) *btf.Spec {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
