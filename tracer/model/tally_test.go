package model

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// check counts everything anew from the sockets and compares it with the tallies that the fold keeps.
func (f *facts) check(t *testing.T) {
	t.Helper()
	f.settle()
	cells, peers, lanes, hops := map[uint32]tally{}, map[uint32]tally{}, map[uint32]tally{}, map[uint32]tally{}
	troubled, known := map[uint32]int{}, map[uint32]int32{}
	rows := map[uint32]int32{}
	for id := uint32(1); id < f.socks.End(); id++ {
		r := f.socks.At(id)
		if r.cell == 0 {
			continue
		}
		rows[r.cell]++
		if r.entry != 0 && f.ledger.entries.At(r.entry).row != id {
			t.Errorf("socket %d is joined to entry %d, which is joined to %d", id, r.entry, f.ledger.entries.At(r.entry).row)
		}
		if r.flags&fCounted == 0 {
			continue
		}
		p := f.cells.At(r.cell).peer
		l := f.peers.At(p).lane
		for _, m := range []struct {
			in map[uint32]tally
			id uint32
		}{{cells, r.cell}, {peers, p}, {lanes, l}, {hops, f.lanes.At(l).hop}} {
			sum := m.in[m.id]
			sum.add(r.tally(), 1)
			m.in[m.id] = sum
		}
		if r.status != healthy {
			troubled[p]++
			if f.peers.At(p).troubled[f.pend(r).spot] != id {
				t.Errorf("socket %d does not stand at its place among the troubled", id)
			}
		}
		if r.entry != 0 {
			known[p]++
		}
	}
	for id := uint32(1); id < f.cells.End(); id++ {
		if c := f.cells.At(id); c.tally != cells[id] || c.rows != rows[id] {
			t.Errorf("cell %d counts %+v in %d rows, want %+v in %d", id, c.tally, c.rows, cells[id], rows[id])
		}
	}
	for id := uint32(1); id < f.peers.End(); id++ {
		p := f.peers.At(id)
		if p.tally != peers[id] || len(p.troubled) != troubled[id] || p.clients.known != known[id] {
			t.Errorf("peer %d counts %+v, %d troubled, %d clients; want %+v, %d, %d", id, p.tally, len(p.troubled), p.clients.known,
				peers[id], troubled[id], known[id])
		}
		networks := int32(0)
		for _, n := range p.clients.networks {
			networks += n
		}
		if networks != p.clients.known {
			t.Errorf("peer %d: %d clients in networks, %d known", id, networks, p.clients.known)
		}
	}
	for id := uint32(1); id < f.lanes.End(); id++ {
		if l := f.lanes.At(id); l.tally != lanes[id] {
			t.Errorf("lane %d counts %+v, want %+v", id, l.tally, lanes[id])
		}
	}
	for id := uint32(1); id < f.hops.End(); id++ {
		h := f.hops.At(id)
		if h.tally != hops[id] {
			t.Errorf("hop %d counts %+v, want %+v", id, h.tally, hops[id])
		}
		if _, sick := f.sick[id]; sick != (h.trouble() > 0) {
			t.Errorf("hop %d: sick %v with %d in trouble", id, sick, h.trouble())
		}
	}
}

// TestTallies folds random facts in any order and checks that the tallies always are what counting anew gives.
func TestTallies(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		f := newFacts(Options{Sockets: 60, Ledger: 40})
		endpoint := func(nets, hosts, ports int) string {
			return fmt.Sprintf("10.%d.0.%d:%d", rng.IntN(nets), 1+rng.IntN(hosts), 1000+rng.IntN(ports))
		}
		roles := []event.Role{event.RoleUnknown, event.RoleAccepted, event.RoleDialled}
		states := []string{"established", "established", "established", "close_wait", "syn_sent", "close", "fin_wait1"}
		for step := range 2000 {
			source := fmt.Sprintf("agent/node-%d", rng.IntN(3))
			cookie := uint64(rng.IntN(80))
			local, peer := endpoint(2, 3, 5), endpoint(3, 4, 20)
			p := event.Progress{
				State: states[rng.IntN(len(states))], Retransmits: uint8(max(0, rng.IntN(6)-3)), ProbesOut: uint8(max(0, rng.IntN(6)-3)),
				Orphan: rng.IntN(20) == 0,
			}
			if rng.IntN(2) == 0 {
				p.ReceivedAge = age(time.Duration(rng.IntN(5000)) * time.Millisecond)
			}
			switch rng.IntN(12) {
			case 0, 1, 2:
				f.seen(source, event.SocketSeen, roles[rng.IntN(3)], cookie, local, peer, p)
			case 3, 4:
				f.seen(source, event.SocketChanged, roles[rng.IntN(3)], cookie, local, peer, p)
			case 5:
				f.seen(source, event.SocketGone, event.RoleUnknown, cookie, local, peer, p)
			case 6:
				f.tcp(source, event.TCPRetransmit, cookie, local, peer, event.TCPFact{TCP: p})
			case 7:
				f.tcp(source, event.TCPClosed, cookie, local, peer, event.TCPFact{TCP: p, How: []string{"fin", "app", "abort", "rst"}[rng.IntN(4)]})
			case 8:
				f.tcp(source, event.TCPError, cookie, local, peer, event.TCPFact{TCP: p, Errno: []string{"ETIMEDOUT", "ECONNRESET", "EPERM"}[rng.IntN(3)]})
			case 9:
				types := []event.Type{event.NATFound, event.NATCreated, event.NATDestroyed}
				f.fold(source, types[rng.IntN(3)], natFact(fmt.Sprintf("node-%d", rng.IntN(3)), endpoint(9, 9, 5), "10.99.0.1:80", local, peer))
			case 10:
				what := []string{"added", "changed", "removed"}
				f.node("kube", what[rng.IntN(3)], event.Node{Name: fmt.Sprintf("node-%d", rng.IntN(3)),
					Addresses: addrs("status InternalIP", fmt.Sprintf("10.%d.0.%d", rng.IntN(3), 1+rng.IntN(4)))})
			case 11:
				f.fold(source, event.PathTraffic, &event.Traffic{Pass: uint64(step), Total: 1, Rows: []event.TrafficRow{{
					Netns: 7, Local: ep(local), Peer: event.Endpoint{IP: ep(peer).IP}, Sockets: 1, ReceivedAge: age(time.Second)}}})
			}
			if f.check(t); t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
			if step%100 == 0 {
				f.Snapshot(f.t, none{})
				f.Page(PageQuery{Limit: 5}, none{})
			}
		}
	}
}
