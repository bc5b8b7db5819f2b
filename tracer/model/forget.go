package model

// remove forgets a socket.
func (m *Model) remove(id uint32) {
	r := m.socks.At(id)
	delete(m.shut, id)
	delete(m.bad, id)
	delete(m.ways, id)
	delete(m.dials, id)
	m.uncount(id)
	if r.cookie != 0 {
		m.byCookie.Delete(cookieKey{m.own(r).src, r.cookie}, id)
	}
	m.byTuple.Delete(m.tuple(r), id)
	if other := m.otherEnd(id); other != 0 && other != id {
		m.unhide(other)
	}
	if r.entry != 0 {
		m.leaveLedger(r.entry)
	}
	m.leaveCell(r.cell)
	m.hosts.Release(r.local)
	m.hosts.Release(r.peer)
	m.owners.Release(r.owner)
	if r.pending != 0 {
		m.pendings.Drop(r.pending)
	}
	m.socks.Drop(id)
}

// leaveCell notes that a socket no longer stands in a cell.
func (m *Model) leaveCell(c uint32) {
	if c == 0 {
		return
	}
	if ce := m.cells.At(c); ce.rows > 1 {
		ce.rows--
	} else {
		ce.rows = 0
		m.spare[c] = struct{}{}
	}
}

// dropSockets forgets all sockets of one source, which is about to tell them again: what a ledger told of them stays, since it
// is not asked twice.
func (m *Model) dropSockets(src uint32) {
	for id := uint32(1); id < m.socks.End(); id++ {
		r := m.socks.At(id)
		if r.cell == 0 || m.own(r).src != src {
			continue
		}
		if r.entry != 0 {
			m.ledger.entries.At(r.entry).recalled = false
		}
		m.remove(id)
	}
}

// makeRoom forgets one healthy socket where the table is full: the next in a round over the table, which is about the
// oldest. Sockets in trouble stay as long as any other is there.
func (m *Model) makeRoom() {
	if m.socks.Len() < m.opts.Sockets {
		return
	}
	n := m.socks.End()
	for range 2 * n {
		if m.hand++; m.hand >= n {
			m.hand = 1
		}
		r := m.socks.At(m.hand)
		if r.cell != 0 && r.status == healthy {
			break
		}
	}
	if m.socks.At(m.hand).cell != 0 {
		m.remove(m.hand)
		m.evicted["model.sockets"]++
	}
}
