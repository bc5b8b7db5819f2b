package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Options choose what [Load] loads.
type Options struct {
	// NoNAT leaves the netfilter programs out: conntrack is not wanted, or is read in another way.
	NoNAT bool
	// NATNetns is the inode number of the network namespace whose conntrack entries are told, this process's own if zero.
	NATNetns uint32
	// EvidenceBytes is the size of the ring of TCP records: a power of two and a multiple of the page size, 4 MiB if zero.
	EvidenceBytes uint32
	// Rungs names the rung that is to serve a fact, and no other (see [ParseRungs]): for tests, and to find out what a lower
	// one costs. A fact that is not named stands on the best rung that works.
	Rungs map[Fact]string
	// VerifierText has the verifier say why it rejects what it rejects, which takes several times as long as to load everything.
	VerifierText bool
	// Served is told every fact as soon as it is settled how it is served, from the goroutine of Load. Nil: nobody.
	Served func(FactReport)
	// Log gets one debug line per rung that does not serve. Nil: nothing is logged.
	Log *slog.Logger
}

// Probes are the loaded programs, attached until Close. One goroutine may call Census, one each may run a ring.
type Probes struct {
	evidence *Ring
	bulk     *Ring
	counts   *ebpf.Map
	ran      *ebpf.Map // which hooks have run
	repairs  *ebpf.Map // nil where retransmissions are not seen
	census   *link.Iter
	troubled *link.Iter // nil where nothing marks sockets, or marks are listed
	marks    *marks     // nil where nothing lists them
	rows     []uint64   // buffer of Census
	cgroups  func(*CgroupRow)

	// A link that is not referenced is closed by the garbage collector and its probe falls silent.
	links []link.Link
	maps  []*ebpf.Map
	progs []*ebpf.Program
	hz    uint32
}

// Load attaches the best rung of every fact and reports which one that is. It fails only where nothing at all can be
// loaded: with a [PrivilegeError] when the process lacks rights, with a [KernelError] when the kernel lacks something.
// It needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN); CAP_SYS_RESOURCE before Linux 5.11.
func Load(o Options) (*Probes, Report, error) {
	l, err := newLoader(o)
	if err != nil {
		return nil, nil, err
	}
	l.probes.hz = l.hz
	report, err := l.load()
	if err != nil {
		l.probes.Close()
		return nil, nil, refused(err)
	}
	for _, f := range report {
		if f.Rung != "" && f.Rung != RungCensus {
			return l.probes, report, nil
		}
	}
	l.probes.Close()
	return nil, report, refused(fmt.Errorf("%s: %s", report[0].Fact, report[0].Why()))
}

// newLoader checks what all programs need.
func newLoader(o Options) (*loader, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkPrivileges(); err != nil {
		return nil, err
	}
	types := btf.NewCache()
	kernel, err := types.Kernel()
	if err != nil {
		return nil, &KernelError{
			Cause:  "this kernel has no BTF, the description of its structs",
			Effect: "no probe can find its fields",
			Remedy: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y (Linux 5.10 or newer of most distributions)",
			Err:    err,
		}
	}
	// Before 5.11 maps were charged to RLIMIT_MEMLOCK; later this does nothing. Failure shows when a map is made.
	if err := rlimit.RemoveMemlock(); err != nil {
		o.Log.Debug("memlock limit stays", "error", err)
	}
	own, err := ownNetns()
	if err != nil {
		return nil, err
	}
	if o.NATNetns == 0 {
		o.NATNetns = own
	}
	hz, err := kernelHZ(types)
	if err != nil {
		return nil, refused(err)
	}
	return &loader{
		options: o, own: own, hz: hz, log: o.Log, probes: new(Probes), shared: make(map[string]*ebpf.Map), specs: make(map[string]*ebpf.CollectionSpec), types: types, kernel: kernel,
	}, nil
}

// Evidence returns the ring of TCP records.
func (p *Probes) Evidence() *Ring { return p.evidence }

// Bulk returns the ring of what may come in storms: NAT records, and resets for segments that belong to no socket.
func (p *Probes) Bulk() *Ring { return p.bulk }

// Counts returns how many records the probes put into a ring and how many found no room, since Load.
func (p *Probes) Counts(r *Ring) (sent, dropped uint64, err error) {
	key := uint32(0)
	if r == p.bulk {
		key = 1
	}
	var per []ringCount
	if err := p.counts.Lookup(key, &per); err != nil {
		return 0, 0, fmt.Errorf("read the counters of ring %s: %w", r.name, err)
	}
	for _, c := range per {
		sent += c.Sent
		dropped += c.Dropped
	}
	return sent, dropped, nil
}

// Repairs calls f for the peers to which segments were sent again since the last call without a timeout: by fast
// retransmission, or as tail loss probes. netns is the inode number of the namespace whose sockets sent them. It may not
// run at the same time as itself. A count that comes while its peer is being read may be lost.
func (p *Probes) Repairs(f func(netns uint32, peer netip.Addr, fast, tailLoss uint64)) error {
	if p.repairs == nil {
		return nil
	}
	var cursor ebpf.MapBatchCursor
	keys, counts := make([]repairKey, repairsBatch), make([]repairCount, repairsBatch)
	for {
		n, err := p.repairs.BatchLookupAndDelete(&cursor, keys, counts, nil)
		for i := range n {
			f(keys[i].Netns, netip.AddrFrom16(keys[i].Peer).Unmap(), counts[i].Fast, counts[i].TailLoss)
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("read the counts of segments sent again: %w", err)
		}
	}
}

// repairsBatch is how many peers are read at a time. A bucket of the map has to fit in (__htab_map_lookup_and_delete_batch).
const repairsBatch = 256

// Close detaches everything. Rings that are being run must have returned.
func (p *Probes) Close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	for _, r := range []*Ring{p.evidence, p.bulk} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	for _, prog := range p.progs {
		errs = append(errs, prog.Close())
	}
	for _, m := range p.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// ownNetns returns the inode number of this process's network namespace. /proc/self would say that of its first thread,
// which cannot end when it has entered another one.
func ownNetns() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("which network namespace is this: %w", err)
	}
	return uint32(st.Ino), nil
}

// capabilities returns a function that tells which effective capabilities this process has.
func capabilities() (has func(c uint) bool, err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil, fmt.Errorf("read this process's capabilities: %w", err)
	}
	return func(c uint) bool { return data[c/32].Effective>>(c%32)&1 == 1 }, nil
}

// checkPrivileges says before anything is tried which capability is missing.
func checkPrivileges() error {
	has, err := capabilities()
	if err != nil {
		return err
	}
	if has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON) {
		return nil
	}
	missing := "CAP_BPF"
	switch {
	case has(unix.CAP_BPF):
		missing = "CAP_PERFMON"
	case !has(unix.CAP_PERFMON):
		missing = "CAP_BPF and CAP_PERFMON"
	}
	return &PrivilegeError{
		Cause:  "this process has no " + missing,
		Effect: "no probe can be loaded, so nothing is seen of any socket",
		Remedy: "run it as root (sudo), or give it CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
	}
}

// refused explains why nothing could be loaded although the capabilities are there.
func refused(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EPERM) {
		return &PrivilegeError{
			Cause:  "the kernel refuses BPF programs in spite of the capabilities: " + err.Error(),
			Effect: "no probe can be loaded, so nothing is seen of any socket",
			Remedy: "look for a lockdown (/sys/kernel/security/lockdown), a seccomp filter or a security module that forbids bpf(2)",
			Err:    err,
		}
	}
	return &KernelError{
		Cause:  "the kernel accepts none of the probes: " + err.Error(),
		Effect: "nothing is seen of any socket",
		Remedy: "run Linux 5.10 or newer with BTF",
		Err:    err,
	}
}
