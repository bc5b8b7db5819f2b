package model

import (
	"net/netip"
	"time"
)

// Share compares one connection with all others by what they have in common: where the fault sits on a shared element,
// those in trouble share it, and elsewhere there is hardly any trouble.
type Share struct {
	Subject SocketView
	All     ShareRow
	Rows    []ShareRow // one for each element of the subject's path that is known
}

// ShareRow counts the sockets that share one element, the subject among them.
type ShareRow struct {
	What     string // via, on, pod, service, network, client
	Name     string
	Sockets  int
	Troubled int       // at risk or stalled: those that show it, not those that are presumed lost
	Heard    time.Time // newest receive of any of them; zero: not known of this element
}

// Share looks for the socket with a [SocketView.Key] and compares it with all others; false where it is not there any
// more. Every cell is visited once, and every socket where the client is known.
func (m *Model) Share(key uint64, cases Cases) (Share, bool) {
	m.settle()
	id := m.byKey(key)
	if id == 0 {
		return Share{}, false
	}
	r := m.socks.At(id)
	out := Share{Subject: m.view(id, cases.Named())}
	c := *m.cells.At(r.cell)
	mine := *m.ends.At(c.end)
	hop := m.behind(&c)
	lane := m.laneByKey[laneKey{m.own(r).src, m.hopByKey[hop.key]}]
	via := ShareRow{What: "via", Name: hop.key.Via(), Heard: Instant(hop.received).Time()}
	on := ShareRow{What: "on", Name: m.strs.text[m.watchers[m.own(r).src].node]}
	both := ShareRow{What: "both", Name: on.Name + " and " + via.Name, Heard: Instant(m.lanes.At(lane).received).Time()}
	pod, service := ShareRow{What: "pod", Name: mine.pod}, ShareRow{What: "service", Name: mine.service}
	for i := uint32(1); i < m.cells.End(); i++ {
		cell := m.cells.At(i)
		if cell.sockets == 0 {
			continue
		}
		end, crosses, lives := m.ends.At(cell.end), m.behind(cell) == hop, m.peers.At(cell.peer).key.src == m.own(r).src
		out.All.add(cell, true)
		via.add(cell, crosses)
		on.add(cell, lives)
		both.add(cell, crosses && lives)
		pod.add(cell, end.pod == mine.pod)
		service.add(cell, end.service == mine.service)
	}
	if both.Sockets == via.Sockets || both.Sockets == on.Sockets {
		both.Name = "" // says nothing that the other does not
	}
	rows := []ShareRow{via, on, both, pod, service}
	for _, row := range append(rows, m.shareClient(r)...) {
		if row.Name != "" {
			out.Rows = append(out.Rows, row)
		}
	}
	return out, true
}

func (s *ShareRow) add(c *cell, shares bool) {
	if shares {
		s.Sockets += int(c.sockets)
		s.Troubled += int(c.trouble())
	}
}

// shareClient counts the sockets of the same client, and of its network, as far as the ledger knows their clients.
func (m *Model) shareClient(of *row) []ShareRow {
	if of.entry == 0 {
		return nil
	}
	from := func(r *row) netip.Addr { return m.hosts.Addr(m.ledger.entries.At(r.entry).origSrc).IP() }
	ip := from(of)
	around := around(ip)
	network, client := ShareRow{What: "network", Name: around.String()}, ShareRow{What: "client", Name: ip.String()}
	for id := uint32(1); id < m.socks.End(); id++ {
		r := m.socks.At(id)
		if r.flags&fCounted == 0 || r.entry == 0 || !around.Contains(from(r)) {
			continue
		}
		for _, row := range []*ShareRow{&network, &client} {
			if row == &client && from(r) != ip {
				continue
			}
			row.Sockets++
			if r.status != healthy {
				row.Troubled++
			}
		}
	}
	return []ShareRow{network, client}
}

// byKey finds a socket by the key of its view, 0 where there is none.
func (m *Model) byKey(key uint64) uint32 {
	for id := uint32(1); id < m.socks.End(); id++ {
		if r := m.socks.At(id); r.cell != 0 && r.flags&fCounted != 0 && m.key(r, id) == key {
			return uint32(id)
		}
	}
	return 0
}
