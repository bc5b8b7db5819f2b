package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

var unspecifiedIP netip.Addr // of a row that stands for several addresses

// PageQuery selects sockets for [Model.Page].
type PageQuery struct {
	Via    string                 // [ViaRow.Via] of the hop; empty for all
	Match  func(*SocketView) bool // nil: all
	Order  func(*SocketView) Rank // nil: worst first, then the order in which they were met
	Offset int
	Limit  int // at most 500, which is also the default
}

// Rank is a place in an order: the least comes first, by number and then by text.
type Rank struct {
	Number float64
	Text   string
}

// Compare orders two places: negative where r comes first.
func (r Rank) Compare(o Rank) int {
	// Written out: hundreds of thousands of rows are sorted while somebody waits.
	switch {
	case r.Number < o.Number:
		return -1
	case r.Number > o.Number:
		return 1
	}
	return strings.Compare(r.Text, o.Text)
}

// MaxPage is the most rows of a page.
const MaxPage = 500

// Page is one page of sockets.
type Page struct {
	Rows  []SocketView
	Total int // that match, on all pages
}

// Page returns one page of the connections that match, healthy ones included.
func (m *Model) Page(q PageQuery, cases Cases) Page {
	m.settle()
	if q.Limit <= 0 || q.Limit > MaxPage {
		q.Limit = MaxPage
	}
	q.Offset = max(0, q.Offset)
	named := cases.Named()
	var out Page
	if q.Order != nil {
		return m.ordered(q, cases)
	}
	for _, worst := range []func(status, bool) bool{
		func(s status, _ bool) bool { return s == stalled },
		func(s status, gone bool) bool { return s == atRisk && !gone },
		func(s status, gone bool) bool { return s != stalled && gone }, // presumed
		func(s status, gone bool) bool { return s == healthy && !gone },
	} {
		m.eachCounted(q.Via, func(id uint32) {
			r := m.socks.At(id)
			if !worst(r.status, len(named) > 0 && named[m.behind(m.cells.At(r.cell)).key].Gone) {
				return
			}
			inPage := out.Total >= q.Offset && len(out.Rows) < q.Limit
			if q.Match == nil && !inPage {
				out.Total++
				return
			}
			v := m.view(id, named)
			if q.Match != nil && !q.Match(&v) {
				return
			}
			out.Total++
			if inPage {
				out.Rows = append(out.Rows, v)
			}
		})
	}
	return out
}

// placed is a socket with its place in an order.
type placed struct {
	rank Rank
	id   uint32
}

func (p placed) compare(o placed) int { return cmp.Or(p.rank.Compare(o.rank), cmp.Compare(p.id, o.id)) }

// ordered returns a page in an order of the asker's.
func (m *Model) ordered(q PageQuery, cases Cases) Page {
	s := Scan{Query: q}
	for !m.Step(&s, cases, int(m.socks.End())) {
	}
	return m.Finish(&s, cases)
}

// Scan is a page in the making. A question that every socket has to be asked takes a while: asked in parts, facts can be
// folded in between. Of all sockets only their places are kept.
type Scan struct {
	Query PageQuery
	next  int
	found []placed
}

// Step asks up to n more sockets and says whether these were the last.
func (m *Model) Step(s *Scan, cases Cases, n int) (done bool) {
	m.settle()
	named := cases.Named()
	end := min(int(m.socks.End()), max(s.next, 1)+n)
	for id := max(s.next, 1); id < end; id++ {
		r := m.socks.At(uint32(id))
		if r.flags&fCounted == 0 || s.Query.Via != "" && m.behind(m.cells.At(r.cell)).key.Via() != s.Query.Via {
			continue
		}
		v := m.view(uint32(id), named)
		switch {
		case s.Query.Match != nil && !s.Query.Match(&v):
		case s.Query.Order != nil:
			s.found = append(s.found, placed{s.Query.Order(&v), uint32(id)})
		default:
			s.found = append(s.found, placed{Rank{Number: worst[v.Status]}, uint32(id)})
		}
	}
	s.next = end
	return end >= int(m.socks.End())
}

// worst is the order of a page without one of the asker's.
var worst = map[string]float64{StatusStalled: 0, StatusAtRisk: 1, StatusPresumed: 2, StatusOK: 3}

// Finish returns the page. A socket that has gone since it was asked is left out.
func (m *Model) Finish(s *Scan, cases Cases) Page {
	m.settle()
	named := cases.Named()
	slices.SortFunc(s.found, placed.compare)
	q := &s.Query
	if q.Limit <= 0 || q.Limit > MaxPage {
		q.Limit = MaxPage
	}
	out := Page{Total: len(s.found)}
	from := min(max(q.Offset, 0), len(s.found))
	for _, p := range s.found[from:min(from+q.Limit, len(s.found))] {
		if m.socks.At(p.id).flags&fCounted != 0 {
			out.Rows = append(out.Rows, m.view(p.id, named))
		}
	}
	return out
}

// Nameless returns the sockets that cross a node and whose client no ledger has told.
func (m *Model) Nameless(node string) []event.Socket {
	m.settle()
	var out []event.Socket
	m.eachCounted(node, func(id uint32) {
		r := m.socks.At(id)
		if m.behind(m.cells.At(r.cell)).key.Kind == KindNode && r.entry == 0 {
			out = append(out, m.socketOf(r))
		}
	})
	return out
}

// eachCounted calls f for every socket that counts, through one hop or all.
func (m *Model) eachCounted(via string, f func(id uint32)) {
	for id := uint32(1); id < m.socks.End(); id++ {
		r := m.socks.At(id)
		if r.flags&fCounted == 0 {
			continue
		}
		if via != "" && m.behind(m.cells.At(r.cell)).key.Via() != via {
			continue
		}
		f(id)
	}
}

// buildTrouble lists the sockets in trouble, worst first, and those that ended lately.
func (m *Model) buildTrouble(s *Snapshot, named map[HopKey]Named) {
	total := 0
	add := func(worst status) {
		for id := uint32(1); id < m.hops.End(); id++ {
			h := m.hops.At(id)
			if h.trouble() == 0 {
				continue
			}
			for _, l := range h.lanes {
				for _, p := range m.lanes.At(l).peers {
					for _, sock := range m.peers.At(p).troubled {
						if m.socks.At(sock).status != worst {
							continue
						}
						if total++; len(s.Trouble) < maxTrouble {
							s.Trouble = append(s.Trouble, m.view(sock, named))
						}
					}
				}
			}
		}
	}
	add(stalled)
	add(atRisk)
	m.addPresumed(s, named, &total)
	for i := range m.recent {
		v := m.recent[(m.ring+len(m.recent)-1-i)%len(m.recent)]
		if total++; len(s.Trouble) < maxTrouble {
			s.Trouble = append(s.Trouble, v)
		}
	}
	s.Omitted = total - len(s.Trouble)
}

// addPresumed lists sockets through hops that are proven gone, as far as there is room.
func (m *Model) addPresumed(s *Snapshot, named map[HopKey]Named, total *int) {
	if s.Totals.Presumed == 0 {
		return
	}
	*total += s.Totals.Presumed
	for k, n := range named { // those at risk stand in the list already
		if id, ok := m.hopByKey[k]; ok && n.Gone {
			*total -= int(m.hops.At(id).atRisk)
		}
	}
	for id := uint32(1); id < m.socks.End() && len(s.Trouble) < maxTrouble; id++ {
		r := m.socks.At(id)
		if r.flags&fCounted == 0 || r.status != healthy {
			continue
		}
		if named[m.behind(m.cells.At(r.cell)).key].Gone {
			s.Trouble = append(s.Trouble, m.view(id, named))
		}
	}
}
