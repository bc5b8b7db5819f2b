package bpfnat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/tick"
)

// Options says how the maps are read. The zero value serves but for Node.
type Options struct {
	// Node is the name of the node whose maps they are.
	Node string
	// Root is the directory of the pins, empty: where dataplanes pin their maps.
	Root string
	// HZ is how many jiffies the kernel counts a second, 0 where that is not known: then Cilium's clock is believed only where
	// it counts seconds.
	HZ uint32
	// Every is the least time between two passes, 10 s if zero.
	Every time.Duration
	// Budget is the share of one core that passes may cost, 0.003 if zero: large maps are read less often.
	Budget float64
	// Look is how often it is looked for a dataplane's maps while there are none, 30 s if zero.
	Look time.Duration
	Log  *slog.Logger // nil: silent
}

// Source reads the maps of whichever dataplanes there are. They may come, go and be replaced while it runs.
type Source struct {
	opts    Options
	netns   uint32
	readers []*reader
	again   atomic.Pointer[func(original, reply event.Tuple, zone uint16) bool] // see Restate
	more    chan struct{}
	told    map[string]string // faults told already, by map
}

// New returns a source. It opens nothing yet: a dataplane may be installed later.
func New(opts Options) *Source {
	if opts.Every <= 0 {
		opts.Every = 10 * time.Second
	}
	if opts.Budget <= 0 {
		opts.Budget = 0.003
	}
	if opts.Look <= 0 {
		opts.Look = 30 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s := &Source{opts: opts, more: make(chan struct{}, 1), told: make(map[string]string)}
	if netns, err := ownNetns(); err == nil {
		s.netns = netns
	}
	s.readers = readers(opts, s.netns)
	return s
}

// ownNetns is the inode number of the network namespace of the calling thread.
func ownNetns() (uint32, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/net", Err: err}
	}
	return uint32(st.Ino), nil
}

// Present names the dataplanes whose maps are pinned here now: cilium, calico.
func (s *Source) Present() []string {
	var names []string
	for _, r := range s.readers {
		if root := s.root(r.marks); root != "" && (len(names) == 0 || names[len(names)-1] != r.ledger.rung) {
			names = append(names, r.ledger.rung)
		}
	}
	return names
}

// root is the directory in which one of these pins stands, empty where none does.
func (s *Source) root(pins []string) string {
	dirs := roots
	if s.opts.Root != "" {
		dirs = []string{s.opts.Root}
	}
	for _, dir := range dirs {
		for _, pin := range pins {
			if _, err := os.Lstat(filepath.Join(dir, pin)); err == nil {
				return dir
			}
		}
	}
	return ""
}

// Restate has those translations told again that are wanted, as nat.found of the rung "checkpoint", within a second. It may be
// called from any goroutine, before Run too; want is called by Run's, once for each translation that is known.
func (s *Source) Restate(want func(original, reply event.Tuple, zone uint16) bool) {
	s.again.Store(&want)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Run tells what the maps hold, then what changes, until ctx ends. It may be called once. What cannot be read is logged
// once and tried again: a dataplane's restart must not end the source.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.more:
			if want := s.again.Swap(nil); want != nil {
				for _, r := range s.readers {
					r.ledger.restate(*want, time.Now(), func() { tell(emit, r.ledger.take()) })
				}
			}
		case now := <-timer.C:
			timer.Reset(s.passes(now, emit))
		}
	}
}

func tell(emit func([]event.Event), batch []event.Event) {
	if len(batch) > 0 {
		emit(batch)
	}
}

// passes runs those passes that are due, and returns how long it is until the next.
func (s *Source) passes(now time.Time, emit func([]event.Event)) time.Duration {
	next := s.opts.Look
	for _, r := range s.readers {
		if !r.due.IsZero() && now.Before(r.due) {
			next = min(next, r.due.Sub(now))
			continue
		}
		root := s.root(r.marks)
		if root == "" && r.ledger.rows.Len() == 0 {
			r.due = time.Time{}
			continue
		}
		began := processTime()
		table, err := r.pass(root, s.moment())
		s.fault(r, err)
		if table != nil {
			r.ledger.out = append(r.ledger.out, event.Event{Type: event.NATTable, Time: time.Now().UTC(), Body: table})
		}
		for out := r.ledger.take(); len(out) > 0; {
			n := min(len(out), fullBatch)
			emit(out[:n:n])
			out = out[n:]
		}
		pause := max(s.opts.Every, time.Duration(float64(processTime()-began)/s.opts.Budget))
		r.due = now.Add(pause)
		next = min(next, pause)
	}
	return max(tick.Next(min(next, s.opts.Every)), next-s.opts.Every)
}

// fault logs what stands in the way of reading a map, once until it changes.
func (s *Source) fault(r *reader, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if s.told[r.name] == text {
		return
	}
	s.told[r.name] = text
	var size *SizeError
	switch {
	case err == nil:
		s.opts.Log.Info("the dataplane's maps are read again", "maps", r.name)
	case errors.As(err, &size):
		s.opts.Log.Warn("no NAT ledger of a dataplane: its maps are of a version that is not known", "maps", r.name, "error", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		s.opts.Log.Warn("no NAT ledger of a dataplane: grant CAP_BPF, and let midhop read the pins", "maps", r.name, "error", err)
	default:
		s.opts.Log.Warn("no NAT ledger of a dataplane for now", "maps", r.name, "error", err)
	}
}

// moment reads the clocks.
func (s *Source) moment() moment {
	m := moment{wall: time.Now().UTC(), hz: uint64(s.opts.HZ)}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err == nil {
		m.mono = time.Duration(t.Nano())
	}
	if m.hz != 0 {
		// jiffies_64 begins 300 s before it would overflow 32 bits (INITIAL_JIFFIES, include/linux/jiffies.h).
		m.jiffies = 1<<32 - 300*m.hz + uint64(m.mono)*m.hz/uint64(time.Second)
	}
	return m
}

// processTime is how long this thread's process has computed: a machine that others load must not make passes rarer.
func processTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// reader reads the maps of one dataplane and family, or of one version's layout.
type reader struct {
	name   string   // of the map that holds the translations
	marks  []string // pins of which one says that the dataplane is here
	ledger *ledger
	due    time.Time
	has    bool // has held a translation since the start
	run    func(root string, m moment, see func(*translation)) (fill, error)
}

// fill is what a pass has read of a map.
type fill struct {
	entries, max uint64
	bad          uint64
	retries      []uint64 // see Table.Retries; nil: not told
}

// pass reads once. It returns no table where the maps are gone.
func (r *reader) pass(root string, m moment) (*event.Table, error) {
	if root == "" {
		r.ledger.begin(m.wall)
		for i := uint32(1); i < r.ledger.rows.End(); i++ {
			if r.ledger.rows.At(i).live {
				r.ledger.end(i, m.wall, "unknown") // the dataplane was removed, or is being replaced
			}
		}
		return nil, nil
	}
	r.ledger.begin(m.wall)
	f, err := r.run(root, m, func(t *translation) { r.ledger.see(t, m.wall) })
	if err != nil {
		return nil, err
	}
	r.ledger.finish(m.wall, f.max > 0 && f.entries*10 >= f.max*9)
	r.has = r.has || r.ledger.rows.Len() > 0
	t := &event.Table{Node: r.ledger.node, Table: r.name, Translates: event.Known(r.has), Entries: f.entries, Max: f.max}
	if r.ledger.over > 0 {
		r.ledger.out = append(r.ledger.out, event.Event{Type: event.StreamLost, Time: m.wall, Body: &event.Lost{Stage: "ledger." + r.ledger.rung, Count: r.ledger.over, Since: m.wall}})
	}
	if f.bad > 0 {
		r.ledger.out = append(r.ledger.out, event.Event{Type: event.StreamLost, Time: m.wall, Body: &event.Lost{Stage: "decode." + r.ledger.rung, Count: f.bad, Since: m.wall}})
	}
	if n := len(f.retries); n > 0 {
		t.Retries, t.PortsGone = event.Known(sum(f.retries[1:])), event.Known(f.retries[n-1])
	}
	return t, nil
}

func sum(list []uint64) (n uint64) {
	for _, v := range list {
		n += v
	}
	return n
}

// readers are all that there may be, each with a ledger of its own: several dataplanes may stand side by side.
func readers(opts Options, netns uint32) []*reader {
	var all []*reader
	for _, f := range []struct {
		*family
		ct, snat, services, backends, retries string
	}{
		{&family4, ciliumCT4, ciliumSNAT4, ciliumRevNAT4, ciliumBackend4, ciliumRetries4},
		{&family6, ciliumCT6, ciliumSNAT6, ciliumRevNAT6, ciliumBackend6, ciliumRetries6},
	} {
		r := &reader{name: f.snat, marks: []string{f.ct, f.snat}, ledger: newLedger(opts.Node, "cilium", netns)}
		r.run = func(root string, m moment, see func(*translation)) (fill, error) {
			p := ciliumPass{node: opts.Node, known: r.ledger.knows}
			return readCilium(root, &p, f.family, [4]string{f.ct, f.snat, f.services, f.backends}, f.retries, m, see)
		}
		all = append(all, r)
	}
	for i := range calicoLayouts {
		l := &calicoLayouts[i]
		r := &reader{name: l.name, marks: []string{l.name}, ledger: newLedger(opts.Node, "calico", netns)}
		r.run = func(root string, m moment, see func(*translation)) (fill, error) {
			return readCalico(root, opts.Node, l, m, see)
		}
		all = append(all, r)
	}
	return all
}

// readCilium makes a pass over one family's maps.
func readCilium(root string, p *ciliumPass, f *family, names [4]string, retries string, m moment, see func(*translation)) (fill, error) {
	sizes := [4][2]int{{f.key, ctSize}, {f.key, f.nat}, {revNATKey, f.revNAT}, {f.backends, f.backend}}
	var maps [4]*pinned
	for i, name := range names {
		p, err := open(root, name, sizes[i][0], sizes[i][1])
		if err != nil {
			return fill{}, err
		}
		defer p.close()
		maps[i] = p
	}
	if maps[0] == nil {
		return fill{}, fmt.Errorf("%s has no pin, though Cilium's others stand there", names[0])
	}
	p.maps = ciliumMaps{family: f, ct: maps[0], snat: empty{}}
	is := fill{max: uint64(maps[0].m.MaxEntries())}
	if maps[1] != nil { // not with masquerading and node ports off
		p.maps.snat, is.max = maps[1], uint64(maps[1].m.MaxEntries())
	}
	if maps[2] != nil {
		p.maps.services = maps[2]
	}
	if maps[3] != nil {
		p.maps.backends = maps[3]
	}
	if err := p.run(m, see); err != nil {
		return fill{}, err
	}
	is.entries, is.bad = uint64(p.cts), p.bad
	if maps[1] != nil {
		is.entries = uint64(p.snats)
	}
	var err error
	is.retries, err = readRetries(root, retries)
	return is, err
}

// empty is a map that is not there.
type empty struct{}

func (empty) Each(func(key, value []byte)) error { return nil }
func (empty) Has([]byte) (bool, error)           { return false, nil }

// readCalico makes a pass over one version's map.
func readCalico(root, node string, l *calicoLayout, m moment, see func(*translation)) (fill, error) {
	t, err := open(root, l.name, l.key, l.value)
	if err != nil || t == nil {
		return fill{}, err
	}
	defer t.close()
	p := calicoPass{node: node, layout: l, table: t}
	if err := p.run(m, see); err != nil {
		return fill{}, err
	}
	return fill{entries: uint64(p.read), max: uint64(t.m.MaxEntries()), bad: p.bad}, nil
}
