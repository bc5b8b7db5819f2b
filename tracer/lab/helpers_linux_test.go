package lab

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	route "github.com/vishvananda/netlink"
)

// sight is what a fake agent says of where it stands.
type sight struct {
	Node, Hostname, BootID, Caps, Bound string
	Procs                               int
}

// fakeAgent prints one line about its surroundings, then one a tenth of a second until it is killed.
func fakeAgent(node string) {
	status, _ := os.ReadFile("/proc/self/status")
	field := func(name string) string {
		for l := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(l, name+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	s := sight{Node: node, Hostname: host, BootID: strings.TrimSpace(string(boot)), Caps: field("CapEff"), Bound: field("CapBnd")}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		if d.Name()[0] >= '0' && d.Name()[0] <= '9' {
			s.Procs++
		}
	}
	b, _ := json.Marshal(s)
	fmt.Println(string(b))
	for range time.Tick(100 * time.Millisecond) {
		if _, err := fmt.Println("beat"); err != nil {
			return
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

// testOptions is a small lab whose children are this test binary.
func testOptions(t testing.TB) Options {
	o := Defaults()
	o.Connections = 60
	o.StateDir = t.TempDir()
	o.AgentArgv = func(node string) []string { return []string{os.Args[0], "fake-agent", node} }
	return o
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start brings a lab up and takes it down after the test.
func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	began := time.Now()
	c, err := Start(t.Context(), o, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s up after %s", c.ID(), time.Since(began))
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return c
}

// patience is how long a test waits before it calls what it waits for missing: a time that only what never comes needs, and
// no slow machine. Some labs take half a minute where others keep the processors busy.
const patience = 3 * time.Minute

// eventually waits until ok holds; what says what for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// entries lists a host's TCP conntrack entries.
func entries(t *testing.T, h *host) []conntrack.Flow {
	t.Helper()
	conn, err := conntrack.Dial(&netlink.Config{NetNS: h.net.fd()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flows, err := conn.Dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	var tcp []conntrack.Flow
	for _, f := range flows {
		if f.TupleOrig.Proto.Protocol == syscall.IPPROTO_TCP {
			tcp = append(tcp, f)
		}
	}
	return tcp
}

func translated(f conntrack.Flow) bool {
	o, r := f.TupleOrig, f.TupleReply
	return o.IP.SourceAddress != r.IP.DestinationAddress || o.IP.DestinationAddress != r.IP.SourceAddress ||
		o.Proto.SourcePort != r.Proto.DestinationPort || o.Proto.DestinationPort != r.Proto.SourcePort
}

// socket is one end of a connection as the kernel has it.
type socket struct {
	local, peer netip.AddrPort
	retransmits uint8  // in a row
	again       uint32 // segments sent again, ever
	acked       uint64
	queued      uint32 // bytes not yet acknowledged or not yet sent
	window      uint32 // the peer's
}

// sockets lists a namespace's established connections with the given local port, 0 for all.
func sockets(t *testing.T, s *space, port uint16, v6 bool) []socket {
	t.Helper()
	return socketsIn(t, s, route.TCP_ESTABLISHED, port, v6)
}

func socketsIn(t *testing.T, s *space, state uint8, port uint16, v6 bool) []socket {
	t.Helper()
	var out []socket
	err := s.do(func() error {
		found, err := route.SocketDiagTCPInfo(uint8(family(v6)))
		for _, f := range found {
			d := f.InetDiagMsg
			if d.State != state || port != 0 && d.ID.SourcePort != port {
				continue
			}
			local, _ := netip.AddrFromSlice(d.ID.Source)
			peer, _ := netip.AddrFromSlice(d.ID.Destination)
			out = append(out, socket{
				local: netip.AddrPortFrom(local.Unmap(), d.ID.SourcePort), peer: netip.AddrPortFrom(peer.Unmap(), d.ID.DestinationPort),
				retransmits: f.TCPInfo.Retransmits, again: f.TCPInfo.Total_retrans, acked: f.TCPInfo.Bytes_acked,
				queued: d.WQueue, window: f.TCPInfo.Snd_wnd,
			})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// podSockets lists the connections of all pods of the service that live, by what stands at the other end.
func podSockets(t *testing.T, c *Cluster) map[netip.Addr][]socket {
	t.Helper()
	by := map[netip.Addr][]socket{}
	for _, w := range c.servers {
		found := sockets(t, w.net, c.plan.Service.TargetPort, c.plan.V6)
		if len(found) == 0 && !c.plan.V6 { // a dual-stack listener accepts IPv4 in IPv6 sockets
			found = sockets(t, w.net, c.plan.Service.TargetPort, true)
		}
		for _, s := range found {
			by[s.peer.Addr()] = append(by[s.peer.Addr()], s)
		}
	}
	return by
}

// conntrackCounter reads one of a namespace's conntrack counters, summed over processors.
func conntrackCounter(t *testing.T, s *space, name string) (sum int) {
	t.Helper()
	err := s.do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		column := -1
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if column < 0 {
				if column = slices.Index(f, name); column < 0 {
					return fmt.Errorf("no counter %s: %v", name, err)
				}
				continue
			}
			n, err := strconv.ParseInt(f[column], 16, 64)
			if err != nil {
				return err
			}
			sum += int(n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// tcpCounter reads one of a namespace's TCP counters.
func tcpCounter(t *testing.T, s *space, name string) int {
	t.Helper()
	return snmpCounter(t, s, "Tcp:", name)
}

func snmpCounter(t *testing.T, s *space, protocol, name string) (value int) {
	t.Helper()
	err := s.do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/snmp")
		if more, failed := os.ReadFile("/proc/thread-self/net/netstat"); failed == nil {
			b = append(b, more...)
		}
		var head []string
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			switch {
			case f[0] != protocol:
			case head == nil:
				head = f
			default:
				for i := range head {
					if head[i] == name {
						_, err = fmt.Sscan(f[i], &value)
						return err
					}
				}
			}
		}
		return fmt.Errorf("no counter %s: %v", name, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// nodeNamed returns the index of a node, -1 where there is none.
func (p *plan) nodeNamed(name string) int {
	return slices.IndexFunc(p.Nodes, func(n nodePlan) bool { return n.Name == name })
}

// seenFrom is the peer address that the service's pods see on connections that entered by node k.
func seenFrom(c *Cluster, k int) netip.Addr {
	n := c.plan.Nodes[k]
	switch {
	case k == c.plan.Home:
		return n.podGateway()
	case c.opts.Overlay != "":
		return n.CIDR.Addr() // the podCIDR's .0
	}
	return n.Addr
}
