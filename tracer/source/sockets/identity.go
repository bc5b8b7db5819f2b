package sockets

import "github.com/midhop/midhop/bpf"

// identity tells a socket from all others of its namespace while it lives: its cookie, or where nobody has asked for one yet, the
// inode number of its file and the sequence number that it began with.
type identity uint64

// noCookie marks what is no cookie. The kernel counts cookies from 1, and would take centuries to get there.
const noCookie = 1 << 63

// inodeBits are what is kept of an inode number: those of sockets have 32 bits (get_next_ino).
const inodeBits = 1<<31 - 1

func identityOf(r *bpf.SocketRow) identity {
	if r.Sock.Cookie != 0 {
		return identity(r.Sock.Cookie)
	}
	return noCookie | identity(r.Inode&inodeBits)<<32 | identity(r.ISN)
}

// cookie returns 0 where there is none.
func (id identity) cookie() uint64 {
	if id&noCookie != 0 {
		return 0
	}
	return uint64(id)
}

// inode returns 0 where it is not known, as where there is a cookie.
func (id identity) inode() uint32 {
	if id&noCookie == 0 {
		return 0
	}
	return uint32(id>>32) & inodeBits
}

// is says whether a socket that had no cookie is the one of a row with the same tuple. What is not known differs from nothing: a
// socket that its process has closed has no file, and the number it began with cannot be read while it moves.
func (id identity) is(r *bpf.SocketRow) bool {
	if mine, its := id.inode(), r.Inode&inodeBits; mine != 0 && its != 0 {
		return mine == its
	}
	began := uint32(id)
	return began == 0 || r.ISN == 0 || began == r.ISN
}

// find returns the place of a row's socket, 0 where it has not been met. One that was met without a cookie and has one now is
// found as the same; named says so. A socket without a cookie that had the row's tuple before is gone, and told so first: who
// reads of both in the other order would take the later one for it.
func (t *table) find(r *bpf.SocketRow, gone func(*known)) (i uint32, named bool) {
	if r.Sock.Cookie != 0 {
		if i := t.index.Get(t.keyOf(r)); i != 0 {
			return i, false
		}
	}
	place := t.tupleKey(&r.Sock, noCookie|identity(r.Inode&inodeBits)<<32)
	if i = t.index.Get(place); i == 0 {
		return 0, false
	}
	k := t.rows.At(i)
	if !k.id.is(r) {
		gone(k)
		if k.pass == uint16(t.pass) {
			t.met--
		}
		delete(t.orphans, place)
		t.forget(place, i)
		return 0, false
	}
	if r.Sock.Cookie != 0 {
		t.index.Delete(place, i)
		k.id = identity(r.Sock.Cookie)
		key := t.keyAt(k)
		t.index.Put(key, i)
		if seen, ok := t.orphans[place]; ok {
			delete(t.orphans, place)
			t.orphans[key] = seen
		}
		return i, true
	}
	if k.id.inode() == 0 || uint32(k.id) == 0 {
		k.id |= identityOf(r) // what was not known of it then
	}
	return i, false
}
