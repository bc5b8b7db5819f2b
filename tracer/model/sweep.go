package model

// How long rows that count nothing are kept, in fact time.
const (
	sweepEvery = int64(10e9)
	peerKept   = int64(60e9)
	lostKept   = int64(3600e9)
)

// sweep drops cells that no socket has stood in since the last sweep, and the peers, ends and hops that nothing refers to
// any more. Facts alone decide when.
func (m *Model) sweep(t int64) {
	if t-m.swept < sweepEvery {
		return
	}
	m.swept = t
	m.forgetHalves(t)
	for len(m.picks) > 0 && m.picks[0].at+picksKept < t {
		m.picks = m.picks[1:]
	}
	for id := range m.spare {
		if m.cells.At(id).rows == 0 {
			m.dropCell(id)
		}
	}
	clear(m.spare)
	for id := uint32(1); id < m.peers.End(); id++ {
		if p := m.peers.At(id); p.born != 0 && p.cells == 0 && len(p.siblings) == 0 && p.factAt+peerKept < t {
			m.dropPeer(id)
		}
	}
	for k, id := range m.hopByKey {
		h := m.hops.At(id)
		for len(h.wentOn) > 0 && h.wentOn[0]+lostKept < t {
			h.wentOn = h.wentOn[1:]
		}
		if len(h.lanes) == 0 && (len(h.lost) == 0 || h.lost[len(h.lost)-1].at+lostKept < t) {
			delete(m.hopByKey, k)
			m.hops.Drop(id)
		}
	}
}

// dropCell drops a cell, and its end when it was the last one there.
func (m *Model) dropCell(id uint32) {
	c := *m.cells.At(id)
	delete(m.cellByKey, cellKey{c.peer, c.end})
	m.cells.Drop(id)
	m.peers.At(c.peer).cells--
	e := m.ends.At(c.end)
	if e.cells--; e.cells > 0 {
		return
	}
	ip := pack(e.ip)
	delete(m.endByKey, endKey{e.src, ip, e.port})
	if list := without(m.endsByIP[ip], c.end); len(list) == 0 {
		delete(m.endsByIP, ip)
	} else {
		m.endsByIP[ip] = list
	}
	m.ends.Drop(c.end)
}

func (m *Model) dropPeer(id uint32) {
	p := m.peers.At(id)
	m.unhangPeer(id)
	if p.key.byLedger() {
		if s, ok := m.peerByKey[p.key.plain()]; ok {
			m.peers.At(s).siblings = without(m.peers.At(s).siblings, id)
		}
	}
	if p.stranger {
		m.strangers--
	}
	delete(m.peerByKey, p.key)
	ip, _ := p.key.names()
	m.forgetPeer(id, ip)
	m.peers.Drop(id)
}
