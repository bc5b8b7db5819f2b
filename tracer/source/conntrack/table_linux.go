package conntrack

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// watch looks at the fill and the losses of the table, and says when they are worth a fact.
type watch struct {
	query *socket
	node  string
	every time.Duration

	last    event.Table // as of the last look
	told    event.Table
	toldAt  time.Time
	started bool
}

// newWatch looks once, so that what cannot be read is known at the start.
func newWatch(query *socket, opts Options) (*watch, error) {
	w := &watch{query: query, node: opts.Node, every: opts.Table}
	var err error
	if w.last, err = w.read(); err != nil {
		return nil, err
	}
	return w, nil
}

// look returns a fact when it is time for one or something jumped, and whether the table has lost a tenth of its entries
// since the look before.
func (w *watch) look(now time.Time) (fact *event.Table, shrunk bool, err error) {
	t, err := w.read()
	if err != nil {
		return nil, false, err
	}
	if w.started {
		lost := int64(w.last.Entries) - int64(t.Entries)
		shrunk = lost >= 16 && lost >= int64(w.last.Entries)/10
	}
	if !w.started || now.Sub(w.toldAt) >= w.every || jumped(&w.told, &t) {
		told := t
		fact = &told
		w.told, w.toldAt = t, now
	}
	w.last, w.started = t, true
	return fact, shrunk, nil
}

// jumped says whether the table differs so much from what was told that it should be told now: entries were refused, or
// the fill moved by a twentieth of the limit.
func jumped(told, now *event.Table) bool {
	moved := int64(now.Entries) - int64(told.Entries)
	return now.Drop > told.Drop || now.EarlyDrop > told.EarlyDrop || now.InsertFailed > told.InsertFailed ||
		now.Max > 0 && uint64(max(moved, -moved)) >= max(64, now.Max/20)
}

// Attributes of statistics (enum ctattr_stats_cpu, ctattr_stats_global; nfnetlink_conntrack.h).
const (
	ctaStatsInvalid      = 4
	ctaStatsInsertFailed = 10
	ctaStatsDrop         = 11
	ctaStatsEarlyDrop    = 12

	ctaStatsEntries    = 1
	ctaStatsMaxEntries = 2
)

// read sums the counters of all CPUs. They are those of /proc/net/stat/nf_conntrack (ctnetlink_stat_ct_cpu), which
// belong to the namespace, as the number of entries does; the limit is the machine's.
func (w *watch) read() (event.Table, error) {
	t := event.Table{Node: w.node}
	err := w.query.query(msgStats, 0, unix.AF_UNSPEC, nil, func(m message) {
		attributes(m.attributes(), func(kind uint16, value []byte) {
			switch kind {
			case ctaStatsEntries:
				t.Entries = uint64(bigEndian32(value))
			case ctaStatsMaxEntries:
				t.Max = uint64(bigEndian32(value))
			}
		})
	}, nil)
	if err != nil {
		return event.Table{}, fmt.Errorf("reading the fill of the conntrack table: %w", err)
	}
	err = w.query.query(msgStatsCPU, netlink.Dump, unix.AF_UNSPEC, nil, func(m message) {
		attributes(m.attributes(), func(kind uint16, value []byte) {
			n := uint64(bigEndian32(value))
			switch kind {
			case ctaStatsInvalid:
				t.Invalid += n
			case ctaStatsInsertFailed:
				t.InsertFailed += n
			case ctaStatsDrop:
				t.Drop += n
			case ctaStatsEarlyDrop:
				t.EarlyDrop += n
			}
		})
	}, nil)
	if err != nil {
		return event.Table{}, fmt.Errorf("reading the conntrack counters: %w", err)
	}
	if t.Max == 0 { // kernels before 4.18 tell it only here
		if n, err := readSysctl("nf_conntrack_max"); err == nil {
			t.Max = uint64(n)
		}
	}
	if n, err := readSysctl("nf_conntrack_events"); err == nil {
		t.Events = event.Known(int(n))
	}
	return t, nil
}

// readSysctl reads a number of the namespace of the calling thread.
func readSysctl(name string) (uint32, error) {
	text, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return uint32(n), nil
}

// readTimeouts reads how long entries live in each state. What cannot be read stays 0, unknown.
func readTimeouts() timeouts {
	var t timeouts
	for state, name := range stateNames {
		if name != "" {
			t.byState[state], _ = readSysctl("nf_conntrack_tcp_timeout_" + name)
		}
	}
	t.byState[stateSynSent2] = t.byState[stateSynSent] // has no sysctl of its own (nf_conntrack_tcp_init_net)
	t.maxRetrans, _ = readSysctl("nf_conntrack_tcp_timeout_max_retrans")
	t.unacknowledged, _ = readSysctl("nf_conntrack_tcp_timeout_unacknowledged")
	return t
}
