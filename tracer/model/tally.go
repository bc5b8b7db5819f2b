package model

// This file counts sockets in the cells, peers, lanes and hops above them.

// tally counts sockets. atRisk, stalled and unaware are disjoint; stranded may be any of them, unaware are those of these
// that look healthy.
type tally struct{ sockets, atRisk, stalled, stranded, unaware int32 }

func (t *tally) add(o tally, sign int32) {
	t.sockets += sign * o.sockets
	t.atRisk += sign * o.atRisk
	t.stalled += sign * o.stalled
	t.stranded += sign * o.stranded
	t.unaware += sign * o.unaware
}

// split says how many sockets are at risk and how many are presumed lost. Through a hop that is proven gone a socket with
// one unanswered segment is as lost as an idle one: what is lost must not shrink while sockets begin to notice.
func (t tally) split(gone bool) (atRisk, presumed int) {
	if gone {
		return 0, int(t.sockets - t.stalled)
	}
	return int(t.atRisk), int(t.unaware)
}

func (t tally) trouble() int32 { return t.atRisk + t.stalled }

// alive says whether a socket in this state is a connection that can cross something.
func alive(state string) bool {
	switch state {
	case "established", "close_wait", "fin_wait1", "fin_wait2", "last_ack", "closing":
		return true
	}
	return false
}

// count adds a socket to the tallies above it, if it is one to count.
func (m *Model) count(id uint32) {
	r := m.socks.At(id)
	if r.flags&(fCounted|fMirror|fOrphan|fFailed|fReset|fClosed) != 0 || r.cell == 0 || !alive(m.words.text[r.state]) || m.sidecarLeg(r) {
		return
	}
	r.flags |= fCounted
	m.tallyUp(r.cell, r.tally(), 1)
	if r.status != healthy {
		p := m.peers.At(m.cells.At(r.cell).peer)
		m.owe(r).spot = uint32(len(p.troubled))
		p.troubled = append(p.troubled, id)
	}
	m.countClient(r, 1)
}

// sidecarLeg says whether a socket is one end of what a pod's proxy and its application say to each other by loopback, after
// a REDIRECT in the pod's namespace: the connection that crosses something is the proxy's.
func (m *Model) sidecarLeg(r *row) bool {
	switch {
	case loopback(m.local(r)):
		return m.inv.podByIP[m.peer(r).IP()] != ""
	case loopback(m.peer(r)):
		return m.inv.podByIP[m.local(r).IP()] != ""
	}
	return false
}

func (m *Model) uncount(id uint32) {
	r := m.socks.At(id)
	if r.flags&fCounted == 0 {
		return
	}
	r.flags &^= fCounted
	m.tallyUp(r.cell, r.tally(), -1)
	if r.status != healthy {
		p := m.peers.At(m.cells.At(r.cell).peer)
		last := p.troubled[len(p.troubled)-1]
		p.troubled[m.pend(r).spot] = last
		m.owe(m.socks.At(last)).spot = m.pend(r).spot
		p.troubled = p.troubled[:len(p.troubled)-1]
	}
	m.countClient(r, -1)
}

func (r *row) tally() tally {
	t := tally{sockets: 1}
	if r.flags&fStranded != 0 {
		t.stranded = 1
	}
	switch r.status {
	case atRisk:
		t.atRisk = 1
	case stalled:
		t.stalled = 1
	default:
		t.unaware = t.stranded
	}
	return t
}

func (m *Model) tallyUp(c uint32, t tally, sign int32) {
	ce := m.cells.At(c)
	ce.add(t, sign)
	p := m.peers.At(ce.peer)
	p.add(t, sign)
	la := m.lanes.At(p.lane)
	la.add(t, sign)
	m.hops.At(la.hop).add(t, sign)
	m.noteSick(la.hop)
	m.shares++
}
