package model

import "github.com/midhop/midhop/tracer/event"

// This file knows which two sockets are the ends of one connection: it counts once.

// otherEnd returns the row of the other end of a socket's connection where that is seen too, 0 where it is not: a socket of
// the same machine with the mirrored addresses, or one of any machine at the other side of a NAT entry.
func (m *Model) otherEnd(id uint32) uint32 {
	other, _ := m.across(id)
	return other
}

// across returns the other end too, and the NAT entry that led there from the dialling end, 0 where it was not needed.
func (m *Model) across(id uint32) (other, dialled uint32) {
	r := m.socks.At(id)
	k := m.tuple(r)
	if other := m.byTuple.Get(k.mirror()); other != 0 && other != id && m.own(m.socks.At(other)).src == m.own(r).src {
		return other, 0
	}
	if r.entry != 0 {
		e := m.ledger.entries.At(r.entry)
		return m.byTuple.Get(m.ledger.orig(e).tuple), 0
	}
	if e := m.dialled(k); e != 0 {
		return m.ledger.entries.At(e).row, e
	}
	return 0, 0
}

// dialled returns the NAT entry of a connection as its client sees it, 0 where there is none.
func (m *Model) dialled(k tupleKey) uint32 {
	k.netns = 0
	return m.ledger.byDialled.Get(k)
}

// pairUp chooses the end that counts where both ends of a connection are seen. It is the one that accepted it, unless that
// one knows of no trouble, or is not heard any more, while the one that dialled gets no answer.
func (m *Model) pairUp(id uint32) {
	other := m.otherEnd(id)
	if other == 0 || other == id {
		return
	}
	r, o := m.socks.At(id), m.socks.At(other)
	if (r.flags|o.flags)&fOrphan != 0 {
		return
	}
	accepted := m.words.small(string(event.RoleAccepted))
	dialled := m.words.small(string(event.RoleDialled))
	hide, show := id, other
	if o.role == dialled || (r.role == accepted && o.role != accepted) {
		hide, show = other, id
	}
	if m.tellsMore(m.socks.At(hide), m.socks.At(show)) {
		hide, show = show, hide
	}
	m.hideEnd(hide, show)
}

// tellsMore says whether the end of a connection that dialled shows its trouble, and the one that accepted it does not.
func (m *Model) tellsMore(dialled, accepted *row) bool {
	if dialled.status == healthy || dialled.flags&(fFailed|fReset|fClosed) != 0 {
		return false
	}
	if m.unheard(m.own(accepted).src) {
		return !m.unheard(m.own(dialled).src)
	}
	return dialled.status == stalled && accepted.status == healthy
}

// unheard says whether a watcher that is to be heard all the time has not been for a while: what it said last is no news.
func (m *Model) unheard(src uint32) bool {
	w := &m.watchers[src]
	return w.beats && m.clock-w.heard >= silentAfter
}

// showEnd lets an end of a connection count instead of the other one.
func (m *Model) showEnd(id uint32) {
	if other := m.otherEnd(id); other != 0 && other != id {
		m.hideEnd(other, id)
		return
	}
	m.unhide(id)
}

func (m *Model) hideEnd(hide, show uint32) {
	m.uncount(hide)
	m.socks.At(hide).flags |= fMirror
	m.unhide(show)
}

// unhide counts a socket again whose other end is not seen any more, or not any more its application's; 0 is none.
func (m *Model) unhide(id uint32) {
	if id == 0 {
		return
	}
	if r := m.socks.At(id); r.flags&fMirror != 0 {
		r.flags &^= fMirror
		m.count(id)
	}
}
