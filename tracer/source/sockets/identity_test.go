package sockets

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midhop/midhop/bpf"
)

// nameless is a connection that nobody has asked for its cookie.
func nameless(peer string, inode, isn uint32) bpf.SocketRow {
	r := connection(0, "10.48.1.7:8080", peer)
	r.Inode, r.ISN = inode, isn
	return r
}

func named(r bpf.SocketRow, cookie uint64) bpf.SocketRow {
	r.Sock.Cookie = cookie
	return r
}

// A socket that has no cookie is told from a later one of its tuple, and is the same when somebody has asked for its cookie. Who
// reads the lines in their order never meets two sockets of one tuple at a time.
func TestWithoutCookie(t *testing.T) {
	const a, b = "10.146.0.3:40001", "10.146.0.3:40002"
	first := nameless(a, 11, 7000)
	orphan := first
	orphan.Inode, orphan.Sock.Flags = 0, bpf.FlagOrphan
	listens := listening(0, "0.0.0.0:8080")
	listens.Inode = 5
	shares := listens
	shares.Inode = 6
	moving := nameless(a, 0, 0)
	for _, c := range []struct {
		name  string
		looks [][]bpf.SocketRow
		want  []string // of each look: change, port of the peer, cookie
	}{
		{"two", [][]bpf.SocketRow{{first, nameless(b, 12, 8000)}, {first}, {first}}, []string{"seen 40001 0, seen 40002 0", "gone 40002 0", ""}},
		{"another file", [][]bpf.SocketRow{{first}, {nameless(a, 12, 8000)}, {}}, []string{"seen 40001 0", "gone 40001 0, seen 40001 0", "gone 40001 0"}},
		{"another number", [][]bpf.SocketRow{{nameless(a, 0, 7000)}, {nameless(a, 0, 8000)}}, []string{"seen 40001 0", "gone 40001 0, seen 40001 0"}},
		{"the same file", [][]bpf.SocketRow{{first}, {nameless(a, 11, 0)}, {nameless(a, 11, 7000)}}, []string{"seen 40001 0", "", ""}},
		{"what moves", [][]bpf.SocketRow{{moving}, {nameless(a, 0, 7000)}, {nameless(a, 0, 8000)}}, []string{"seen 40001 0", "", "gone 40001 0, seen 40001 0"}},
		{"asked for", [][]bpf.SocketRow{{first}, {named(first, 9)}, {named(first, 9)}, {}}, []string{"seen 40001 0", "changed 40001 9", "", "gone 40001 9"}},
		{"asked for while it is looked at", [][]bpf.SocketRow{{first}, {first, named(first, 9)}, {named(first, 9)}}, []string{"seen 40001 0", "changed 40001 9", ""}},
		{"another one asked for", [][]bpf.SocketRow{{first}, {named(nameless(a, 12, 8000), 9)}, {}}, []string{"seen 40001 0", "gone 40001 0, seen 40001 9", "gone 40001 9"}},
		{"closed and asked for", [][]bpf.SocketRow{{first}, {named(orphan, 9)}}, []string{"seen 40001 0", "changed 40001 9"}},
		{"listeners of one port", [][]bpf.SocketRow{{listens, shares}, {listens, shares}, {shares}}, []string{"seen 0 0, seen 0 0", "", "gone 0 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			for i, rows := range c.looks {
				told, _ := socketRows(t, f.look(t, rows...))
				var got []string
				for _, r := range told {
					got = append(got, fmt.Sprint(r.Change, " ", r.Socket.Peer.Port, " ", r.Socket.Cookie))
				}
				if text := strings.Join(got, ", "); text != c.want[i] {
					t.Errorf("look %d told %q, want %q", i+1, text, c.want[i])
				}
			}
		})
	}
}

// What a look at the troubled finds of a socket that was met without a cookie is that socket, with its file or without.
func TestFollowedWithoutCookie(t *testing.T) {
	table := newTable()
	table.begin()
	never := func(*known) { t.Error("told as gone") }
	row := nameless("10.146.0.3:40001", 11, 7000)
	table.see(&row, never)
	table.beginFollow()
	row.Sock.Cookie, row.Inode, row.Sock.Retransmits = 9, 0, 2
	if found, ok := table.revisit(&row, never); !ok || found.change != "changed" {
		t.Errorf("told %q", found.change)
	}
	row.Sock.Flags |= bpf.FlagOrphan
	if _, ok := table.revisit(&row, never); !ok || table.len() != 1 {
		t.Errorf("%d sockets", table.len())
	}
	table.begin()
	table.sweep(never)
	table.beginFollow()
	gone := 0
	table.endFollow(func(*known) { gone++ })
	if gone != 1 || table.len() != 0 {
		t.Errorf("told gone %d times, and %d are left", gone, table.len())
	}
}
